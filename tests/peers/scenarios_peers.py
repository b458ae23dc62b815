"""The scenarios of taskvisor, sisyphus and resilient-components, as in `scenarios`.

A batch of taskvisor reads as a list of children, its slots and admission as the keys of a
`DynamicSupervisor`; once, restartable and always as temporary, transient and permanent.
"""

from __future__ import annotations

NO_OWNERS = "a tree ends with its block, never because the last reference to it was dropped"
NO_CALLBACKS = "subscribers iterate and are never called, so nothing can be blocked by them"
NO_VIEWS = "queries read the tree itself, not a view made of events"
NO_QUEUE = "the mailbox has no bound of its own: each caller waits for its answer"

TASKVISOR = {
    # Lifecycle
    "L1": "peers/test_taskvisor_lifecycle.py::test_l1_once_and_well",
    "L2": "peers/test_taskvisor_lifecycle.py::test_l2_once_and_failed",
    "L3": "peers/test_taskvisor_lifecycle.py::test_l3_restartable_failing_twice_and_then_well",
    "L4": "peers/test_taskvisor_lifecycle.py::test_l4_restartable_and_fatal"
    " processes/test_processes.py::test_one_exit_code_may_be_final",
    "L5": "peers/test_taskvisor_lifecycle.py::test_l5_always_and_fatal",
    "L6": "peers/test_taskvisor_lifecycle.py::test_l6_a_budget_of_retries"
    " processes/test_processes.py::test_a_budget_of_restarts_and_the_code_at_its_end",
    "L7": "peers/test_taskvisor_lifecycle.py::test_l7_l8_always_with_and_without_an_interval",
    "L8": "peers/test_taskvisor_lifecycle.py::test_l7_l8_always_with_and_without_an_interval",
    "L9": "peers/test_taskvisor_lifecycle.py::test_l9_runs_that_end_well_eat_nothing_of_the_budget",
    "L10": "peers/test_taskvisor_lifecycle.py::test_l10_a_batch_of_three",
    "L11": "peers/test_taskvisor_lifecycle.py::test_l11_a_batch_with_a_duplicate",
    # Failure and cancellation
    "F1": "processes/test_processes.py::test_the_exit_code_is_in_every_report",
    "F2": "stop/test_terminations.py::"
    "test_a_child_that_raises_ends_failed_with_that_very_exception",
    "F3": "restart/test_restart.py::test_restart_type_and_reason_decide",
    "F4": "handles/test_waiting.py::"
    "test_stop_and_abort_of_a_nested_supervisor_are_an_end_by_itself",
    "F5": "stop/test_terminations.py::test_a_child_that_settles_ends_normal_with_burden_settling",
    "F6": "stop/test_terminations.py::test_a_child_that_never_listened_is_aborted_at_once",
    "F7": "dynamic/test_limits.py::"
    "test_one_that_waits_can_be_given_up_by_its_caller_and_terminated",
    # Timeout
    "T1": "peers/test_taskvisor_lifecycle.py::test_t1_a_timeout_for_each_attempt",
    "T2": "peers/test_taskvisor_lifecycle.py::"
    "test_t2_the_first_attempt_hangs_and_the_second_is_well",
    "T3": "peers/test_taskvisor_lifecycle.py::test_t3_no_timeout_is_said_as_inf_and_not_as_zero",
    "T4": "peers/test_taskvisor_lifecycle.py::"
    "test_t4_a_timeout_of_the_body_itself_is_a_failure_like_any",
    # Defaults
    "D1": "spec/test_defaults.py::test_d1_a_child_added_later_has_them",
    "D2": "spec/test_defaults.py::test_d2_the_children_of_a_list_have_them",
    "D3": "spec/test_defaults.py::test_d3_a_child_that_is_admitted_by_its_key_has_them",
    "D4": "spec/test_defaults.py::test_d4_one_that_says_nothing_obeys_them_all",
    "D5": "spec/test_defaults.py::test_d5_what_a_child_says_beats_them",
    "D6": "spec/test_defaults.py::test_d6_a_budget_for_all_and_one_without",
    # Identity and management
    "I1": "dynamic/test_dynamic.py::test_it_starts_empty_and_starts_what_it_is_asked_to",
    "I2": "dynamic/test_conflicts.py::test_raise_is_the_default",
    "I3": "peers/test_crowds.py::test_i3_one_that_ends_at_once_was_started_all_the_same",
    "I4": "dynamic/test_dynamic.py::test_a_terminated_child_is_forgotten",
    "I5": "calls/test_calls.py::test_every_call_has_an_answer_in_every_state",
    "I6": "calls/test_calls.py::test_every_call_has_an_answer_in_every_state",
    "I7": "calls/test_ends.py::test_two_who_terminate_one_child_both_see_its_end",
    "I8": "calls/test_ends.py::test_two_who_terminate_one_child_both_see_its_end",
    "I9": "calls/test_callers.py::test_a_cancelled_caller_takes_no_termination_back",
    "I10": "calls/test_callers.py::test_a_cancelled_caller_takes_no_termination_back",
    "I11": "stop/test_stuck.py::"
    "test_a_shielded_child_is_named_with_its_stack_at_doubling_intervals",
    "I12": "handles/test_handles.py::test_which_children_lists_them_in_start_order",
    "I13": "handles/test_handles.py::test_counts",
    "I14": "telemetry/test_events.py::test_a_whole_life_balances",
    "I15": "dynamic/test_conflicts.py::test_a_key_that_has_ended_for_good_is_free",
    "I16": "calls/test_stopping.py::"
    "test_while_it_stops_and_afterwards_every_call_is_refused_at_once",
    # Watch
    "W1": "telemetry/test_events.py::"
    "test_a_restart_is_a_row_of_facts_with_all_that_is_known_of_them",
    "W2": "handles/test_waiting.py::test_wait_ends_when_a_child_is_done",
    "W3": "restart/test_restart.py::test_discarded_the_child_is_done_and_all_else_goes_on",
    "W4": "dynamic/test_tasks.py::"
    "test_f21_f22_f23_the_exception_of_a_task_is_raised_where_it_is_awaited",
    "W5": "restart/test_stray_cancelled.py::test_a_child_that_raises_it_has_failed_by_itself",
    "W6": "stop/test_shutdown.py::test_each_child_has_its_own_time_from_the_moment_it_is_asked",
    "W7": "handles/test_waiting.py::test_wait_lasts_over_restarts_until_the_end_for_good",
    "W8": "calls/test_handles.py::test_wait_ends_with_a_termination_by_call",
    "W9": "calls/test_ends.py::test_terminate_child_aborts_one_that_does_not_settle",
    "W10": "dynamic/test_conflicts.py::test_raise_is_the_default",
    "W11": "handles/test_waiting.py::"
    "test_wait_ends_at_the_latest_with_that_incarnation_of_its_supervisor",
    "W12": "peers/test_crowds.py::test_w12_whoever_stops_waiting_stops_nothing_else",
    "W13": "telemetry/test_events_lost.py::"
    "test_the_end_is_heard_even_by_who_has_lost_everything_else",
    "W14": "stop/test_terminations.py::"
    "test_a_child_that_raises_ends_failed_with_that_very_exception",
    # Shutdown
    "S1": NO_CALLBACKS,
    "S2": NO_CALLBACKS,
    "S3": "dynamic/test_ends.py::test_all_children_stop_at_the_same_time_each_with_its_own_time",
    "S4": "start/test_open_system.py::test_stop_may_be_called_again_and_by_many",
    "S5": NO_CALLBACKS,
    "S6": "start/test_open_system.py::test_stop_may_be_called_again_and_by_many",
    "S7": "start/test_open_system.py::test_a_cancelled_stop_is_not_taken_back",
    "S8": "start/test_open_system.py::test_a_cancelled_stop_is_not_taken_back",
    "S9": "start/test_open_system.py::test_stop_may_be_called_again_and_by_many",
    "S10": "each run makes a tree of its own: there is no other one to join",
    "S11": "stop/test_stuck.py::"
    "test_a_shielded_child_is_named_with_its_stack_at_doubling_intervals",
    "S12": "start/test_open_system.py::test_an_empty_tree_stands_until_it_is_left",
    "S13": "stop/test_stuck.py::test_the_stuck_leaf_of_an_aborted_subtree_is_named",
    "S14": "stop/test_shutdown.py::test_shutdown_zero_aborts_at_once_also_one_that_listens",
    "S15": "program/test_run.py::test_run_takes_a_bare_system_with_options",
    # Ownership
    "O1": "start/test_open_system.py::test_one_supervisor_may_be_opened_again",
    "O2": "start/test_open_system.py::test_one_supervisor_may_be_opened_again",
    "O3": "spec/test_bad_input_slips.py::test_a_tree_needs_trio",
    **dict.fromkeys(("O4", "O5", "O6", "O7", "O8", "O9"), NO_OWNERS),
    # Concurrency: in one thread, so without the threads of the original
    "C1": "peers/test_crowds.py::test_c1_c5_many_are_added_and_ended_at_once",
    "C2": "peers/test_crowds.py::test_c2_of_many_with_one_key_one_is_started",
    "C3": "peers/test_crowds.py::test_c3_added_and_removed_in_turns_nothing_is_left",
    "C4": "peers/test_crowds.py::test_c4_c6_many_who_end_the_same_one",
    "C5": "peers/test_crowds.py::test_c1_c5_many_are_added_and_ended_at_once",
    "C6": "peers/test_crowds.py::test_c4_c6_many_who_end_the_same_one",
    "C7": "peers/test_crowds.py::test_c7_many_that_end_at_once_leave_nothing",
    "C8": "peers/test_crowds.py::test_c8_many_take_turns_and_a_stop_ends_them_all",
    "C9": "peers/test_crowds.py::test_c9_whoever_comes_with_the_stop_gets_an_answer",
    "C10": "peers/test_crowds.py::test_c10_many_queues_are_all_worked_off",
    "C11": "dynamic/test_conflicts.py::test_fifty_replace_each_other_and_one_is_left",
    "C12": "dynamic/test_conflicts.py::test_forty_at_once_and_only_one_runs",
    # Controller
    "K1": "spec/test_values.py::test_a_child_has_defaults",
    "K2": "peers/test_crowds.py::test_k2_a_key_can_be_known_before_anything_happens",
    "K3": "a Child is a value: nothing is prepared that could be dropped",
    "K4": "dynamic/test_tasks.py::test_f05_f10_a_task_is_a_child_until_it_ends",
    "K5": "dynamic/test_conflicts.py::test_raise_is_the_default",
    "K6": "dynamic/test_conflicts.py::test_a_cancelled_caller_leaves_the_queue",
    "K7": "dynamic/test_dynamic.py::test_a_terminated_child_is_forgotten",
    "K8": "dynamic/test_conflicts.py::test_a_cancelled_caller_leaves_the_queue",
    "K9": "dynamic/test_conflicts.py::test_a_stop_starts_nothing_that_was_queued",
    "K10": "every DynamicSupervisor admits by key: there is none without a controller",
    "K11": "dynamic/test_conflicts.py::test_without_a_conflict_it_is_a_plain_start",
    "K12": "dynamic/test_conflicts.py::test_three_in_a_queue_run_in_their_order",
    "K13": "dynamic/test_conflicts.py::test_replace_stops_the_present_one_first",
    "K14": "dynamic/test_conflicts.py::"
    "test_ignore_leaves_the_present_one_alone_also_if_it_waits_to_restart",
    "K15": "dynamic/test_conflicts.py::test_without_a_conflict_it_is_a_plain_start",
    "K16": "dynamic/test_conflicts.py::test_different_keys_never_conflict",
    "K17": "the key is the slot: there is no second name that could clash",
    "K18": "dynamic/test_conflicts.py::test_without_a_conflict_it_is_a_plain_start",
    "K19": "dynamic/test_conflicts.py::test_a_key_that_has_ended_for_good_is_free",
    "K20": "peers/test_crowds.py::test_k20_so_many_may_queue_for_a_key_and_no_more",
    "K21": NO_QUEUE,
    "K22": "those that queue are no children yet: their callers know of them",
    "K23": "calls/test_handles.py::test_after_the_end_every_call_of_a_handle_is_refused",
    "K24": "dynamic/test_dynamic.py::test_a_start_that_fails_leaves_nothing_behind",
    # Units
    "U1": "components/test_periodic.py::test_without_a_pause_others_still_get_their_turn",
    "U2": "restart/test_backoff.py::test_the_wait_is_computed_from_the_restarts_in_a_row",
    "U3": "jitter is tenacity's, and tested there",
    "U4": "cancel scopes are trio's, and tested there",
    "U5": NO_VIEWS,
    "U6": NO_VIEWS,
    "U7": "telemetry/test_events_subscribers.py::test_a_subscriber_that_fails_harms_nobody",
    "U8": "telemetry/test_events.py::test_a_whole_life_balances",
    "U9": "calls/test_callers.py::"
    "test_a_cancelled_call_that_has_not_been_served_is_as_if_never_made",
    "U10": NO_QUEUE,
    "U11": "calls/test_stopping.py::test_a_stop_does_not_lose_who_waits_for_an_end",
    "U12": "calls/test_replays.py::test_calls_during_a_replay_are_served_after_it_in_their_order",
    "U13": "there is no separate operation of shutting down that could fail half-way",
    "U14": "program/test_run.py::test_run_outside_the_main_thread_leaves_signals_alone",
    "U15": "telemetry/test_events_lost.py::"
    "test_a_full_buffer_loses_the_oldest_and_says_how_many_at_the_gap",
    "U16": "dynamic/test_conflicts.py::test_a_replacement_turns_away_those_that_queue",
}

SISYPHUS = {
    "S1": "components/test_components.py::test_one_object_lives_through_all_its_runs"
    " pipes/test_pipes.py::"
    "test_s1_a_restart_after_its_delay_has_the_same_channels_and_loses_local_state",
    "S2": "components/test_components.py::"
    "test_an_unrecoverable_failure_is_not_retried_and_the_end_says_what_it_was",
    "S3": "components/test_components.py::"
    "test_a_stop_while_it_waits_for_its_restart_starts_nothing",
    "S4": "components/test_components.py::test_no_status_is_missing_however_slowly_it_is_read",
    "S5": "components/test_components.py::test_those_that_failed_together_come_back_one_by_one"
    " pipes/test_pipes.py::test_s5_the_delays_of_workers_that_fail_together_differ",
    "S6": "components/test_components.py::test_no_status_is_missing_however_slowly_it_is_read",
    "S7": "pipes/test_pipes.py::test_s7_a_worker_fails_with_an_item_in_hand_and_nothing_is_lost",
    "S8": "pipes/test_pipes.py::test_s8_a_full_downstream_holds_the_upstream_back",
    "S9": "pipes/test_pipes.py::test_s9_a_closed_upstream_ends_each_stage_after_what_it_had_in_hand"
    " pipes/test_pipes.py::test_s9_a_closed_downstream_is_an_error_that_names_the_stage",
    "S10": "pipes/test_pipes.py::test_s10_a_worker_can_take_an_item_out",
    "S11": "pipes/test_lossless.py::"
    "test_s11_cancelled_at_any_await_an_item_is_either_held_or_passed_on",
}
COMPONENTS = {
    "R1": "components/test_components.py::"
    "test_r1_the_handler_sees_what_was_reported_and_the_old_one_ends_before_the_new",
    "R2": "components/test_components.py::"
    "test_r2_a_crash_without_a_report_is_what_the_handler_sees",
    "R3": "components/test_components.py::"
    "test_r3_a_handler_that_raises_ends_supervision_with_its_error",
    "R4": "components/test_components.py::"
    "test_r4_what_was_sent_counts_and_not_the_return_behind_it",
}

PEERS = {
    **{f"taskvisor {number}": told for number, told in TASKVISOR.items()},
    **{f"sisyphus {number}": told for number, told in SISYPHUS.items()},
    **{f"components {number}": told for number, told in COMPONENTS.items()},
}
