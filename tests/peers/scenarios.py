"""Where each scenario of the peers' own test suites is told here, or why it is not.

The catalogue is this table. A number stands for one test of a peer's suite: A for OTP's
``supervisor_SUITE``, C, E and F for Elixir's tests of ``Supervisor``, ``PartitionSupervisor`` and
``Task.Supervisor``; the others are in `scenarios_peers`. A row names tests, as ``file::test``, or
gives the reason in a few words.
"""

from __future__ import annotations

from scenarios_peers import PEERS


def rows(file: str, table: str) -> dict[str, str]:
    """A table of lines: the numbers, then the test of that file that tells them."""
    told: dict[str, str] = {}
    for line in table.split("\n"):
        *numbers, test = line.split() or [""]
        for number in numbers:
            place = f"{file}::{test}"
            told[number] = f"{told[number]} {place}" if number in told else place
    return told


def merged(*tables: dict[str, str]) -> dict[str, str]:
    """One table; a number told in several places names them all."""
    whole: dict[str, str] = {}
    for table in tables:
        for number, told in table.items():
            whole[number] = f"{whole[number]} {told}" if number in whole else told
    return whole


START = rows(
    "peers/test_start.py",
    """
    A01 test_a01_sup_start_normal
    A02 test_a02_sup_start_ignore_init
    A03 test_a03_sup_start_ignore_child
    A03 test_a03_an_ignored_child_is_tried_again_by_a_replay
    A04 test_a04_sup_start_ignore_temporary_child
    A08 test_a08_sup_start_error_return
    A09 test_a09_sup_start_fail
    A09 test_a09_a_nested_start_fails_in_turn
    A10 test_a10_sup_start_child_returns_error
    A10 test_a10_uncaught_it_takes_the_earlier_ones_with_it
    A26 test_a26_duplicate_ids
    A26 test_a26_the_key_of_a_start_that_failed_and_was_caught_is_free
    A28 test_a28_options_belong_to_a_bare_system
    A51 test_a51_faulty_application_shutdown
    C03 test_c03_init_defaults
    C05 C06 C07 test_c05_c06_c07_a_supervisor_is_addressable_by_its_path
    C08 test_c08_start_link
    """,
)
SPECS = rows(
    "peers/test_specs.py",
    """
    A13 test_a13_sup_start_map
    A15 test_a15_sup_start_map_faulty_specs
    A26 C14 test_a26_c14_invalid_child_specs
    A26 C15 test_a26_c15_valid_child_specs
    A27 test_a27_significant_needs_a_child_that_may_end
    A28 C08 test_a28_c08_sup_flags
    A28 test_a28_intensity_and_period
    A28 test_a28_an_unknown_flag_is_refused
    C02 test_c02_other_values_are_no_children
    """,
)
STOP = rows(
    "peers/test_stop.py",
    """
    A16 test_a16_sup_stop_infinity
    A17 test_a17_sup_stop_timeout
    A19 test_a19_sup_stop_brutal_kill
    A22 test_a22_sup_stop_non_shutdown_exit
    A16 test_a16_stop_by_the_handle_is_the_same_as_leaving
    A20 test_a20_abort_ends_every_child_at_once
    A17 test_a17_an_expired_subtree_is_aborted_whole
    A22 test_a22_a_child_that_raises_while_stopped_is_recorded
    """,
)
STRATEGIES = rows(
    "peers/test_strategies.py",
    """
    A30 A32 A41 test_a30_a32_a41_what_each_strategy_restarts
    A31 A33 A38 A42 test_a31_a33_a38_a42_starts_that_fail_are_counted_until_it_escalates
    A79 test_a79_every_path_leads_to_the_new_incarnation
    """,
)
ENDS = rows(
    "peers/test_ends.py",
    """
    A45 test_a45_permanent_normal
    A46 test_a46_transient_normal
    A47 test_a47_temporary_normal
    A48 test_a48_permanent_shutdown
    A52 test_a52_permanent_abnormal
    A53 test_a53_transient_abnormal
    A54 test_a54_temporary_abnormal
    A57 test_a57_nonsignificant_temporary
    A58 test_a58_nonsignificant_transient
    A39 A75 test_a39_a75_an_ended_temporary_child_leaves_nothing_behind
    A75 test_a75_a_child_that_is_restarted_keeps_its_arguments
    A44 A89 A90 test_a44_a89_a90_log_records
    """,
)
CALLS = rows(
    "peers/test_calls.py",
    """
    A03 test_a03_sup_start_ignore_child
    A05 test_a05_sup_start_ignore_temporary_child_start_child
    A10 test_a10_sup_start_child_returns_error
    A11 test_a11_sup_start_restart_child_returns_error
    A23 test_a23_child_adm
    A23 test_a23_calls_on_a_supervisor_that_is_no_more
    A25 test_a25_extra_return
    A26 C14 test_a26_c14_what_is_no_child_is_refused
    A48 test_a48_permanent_shutdown
    A49 test_a49_transient_shutdown
    A50 test_a50_temporary_shutdown
    A45 A46 A47 A52 A53 A54 test_a45_a46_a47_a52_a53_a54_for_children_that_were_added
    A55 test_a55_child_unlink
    A76 test_a76_do_not_save_child_specs_for_temporary_children
    A79 test_a79_simple_global_supervisor
    A91 test_a91_already_started_outside_supervisor
    """,
)
DYNAMIC = rows(
    "peers/test_dynamic.py",
    """
    A06 A07 test_a06_a07_sup_start_ignore_child_start_child_simple
    A12 test_a12_sup_start_child_returns_error_simple
    A18 test_a18_sup_stop_timeout_dynamic
    A20 test_a20_sup_stop_brutal_kill_dynamic
    A22 test_a22_sup_stop_non_shutdown_exit_dynamic
    A24 test_a24_child_adm_simple
    A35 A37 test_a35_a37_simple_one_for_one
    A36 test_a36_simple_one_for_one_shutdown
    A39 test_a39_simple_one_for_one_corruption
    A40 test_a40_simple_one_for_one_restart_ignore
    A71 test_a71_count_children
    A72 test_a72_count_children_supervisor
    A73 test_a73_count_restarting_children
    A77 test_a77_simple_one_for_one_scale_many_temporary_children
    A71 test_a71_a_thousand_at_once
    """,
)
SIGNIFICANT = rows(
    "peers/test_significant.py",
    """
    A57 test_a57_nonsignificant_temporary
    A58 test_a58_nonsignificant_transient
    A59 test_a59_significant_temporary_any
    A59 test_a59_significant_temporary_all
    A60 test_a60_significant_transient_any
    A60 test_a60_significant_transient_all
    A60 test_a60_terminating_the_last_of_them_ends_nothing
    A60 test_a60_those_that_were_terminated_are_not_waited_for
    A60 test_a60_a_significant_child_that_was_added_counts
    A61 test_a61_significant_simple
    A27 test_a27_significant_under_never_is_refused_by_calls_and_at_the_start
    """,
)
ELIXIR = rows(
    "peers/test_elixir.py",
    """
    C08 test_c08_start_link
    C11 C12 C13 test_c11_c12_c13_start_child_takes_every_kind_of_child
    C13 test_c13_start_child_takes_a_supervisor
    C15 test_c15_with_valid_child_spec
    C16 test_c16_child_life_cycle
    C16 test_c16_a_crash_between_the_calls_changes_no_answer
    """,
)
PARTITIONS = rows(
    "dynamic/test_partitions.py",
    """
    E01 E02 test_e01_e02_paths_begin_with_the_name_or_the_key
    E03 test_e03_as_many_as_there_are_cpus_share_what_random_keys_bring
    E04 test_e04_its_handle_is_the_value_that_a_sibling_is_given
    E05 test_e05_each_child_is_made_for_its_index_and_ints_are_taken_modulo
    E05 test_e05_other_keys_go_where_they_go_in_every_process
    E06 E07 E08 E09 E10 test_e06_to_e10_bad_values_are_refused_where_they_are_written
    E07 test_e07_what_makes_the_children_may_raise
    E11 E12 test_e11_e12_stop_returns_when_all_have_ended_in_reverse
    E13 E14 E21 test_e13_e14_e21_of_one_that_is_gone_only_the_last_is_known
    E15 test_e15_resize
    E16 test_e16_with_zero_partitions_nobody_serves_any_key
    E17 test_e17_the_initial_number_is_the_greatest
    E18 test_e18_the_children_are_listed_by_the_number_that_leads_to_them
    E19 E20 E22 test_e19_e20_e22_counts
    """,
)
TASKS = rows(
    "dynamic/test_tasks.py",
    """
    F01 F03 test_f01_f03_tasks_run_under_a_child_like_any_other
    F04 test_f04_no_tasks_no_children
    F05 F10 test_f05_f10_a_task_is_a_child_until_it_ends
    F06 F11 test_f06_f11_stopping_the_supervisor_stops_its_tasks
    F07 F12 test_f07_f12_no_more_tasks_than_children_are_allowed
    F08 F18 test_f08_a_task_knows_who_supervises_it
    F09 F13 test_f09_f13_arguments_are_handed_on
    F14 F15 test_f14_f15_started_as_a_child_nobody_waits_for_it
    F16 test_f16_a_child_that_is_started_has_its_own_shutdown
    F17 test_f17_a_permanent_one_runs_again
    F19 test_f19_a_task_can_be_terminated_by_its_key
    F20 test_f20_giving_up_waiting_takes_the_task_along
    F20 test_f20_with_no_time_at_all_nothing_is_left
    F21 F22 F23 test_f21_f22_f23_the_exception_of_a_task_is_raised_where_it_is_awaited
    F23 test_f23_an_exit_ends_the_program_and_interrupts_the_caller
    """,
)
MAPS = rows(
    "dynamic/test_tasks_map.py",
    """
    F24 F37 test_f24_f37_results_come_in_the_order_of_the_items
    F25 F38 test_f25_f38_a_method_and_any_iterable_will_do
    F26 F39 test_f26_f39_nothing_is_left_when_all_are_consumed
    F27 F40 test_f27_f40_the_slowest_first_keeps_its_place
    F28 F41 test_f28_f41_failing_items_are_results_like_others
    F29 F42 test_f29_f42_taking_one_shuts_the_others_down
    F30 F43 test_f30_f43_taking_none_shuts_all_of_them_down
    F31 F44 test_f31_f44_no_more_tasks_than_children_are_allowed
    F32 test_f32_tasks_know_who_supervises_them
    F33 test_f33_another_task_may_consume
    F34 test_f34_each_task_has_its_timeout
    F35 test_f35_taking_four_of_eight_that_fail
    F36 test_f36_bad_options_are_refused_where_they_are_written
    """,
)
REASONS = {
    "A14": "children have no template of their own to be asked for: each is started from its Child",
    "C01": "there is no class-level default: a Child is written where it is used",
    "F02": "there is no class-level default: a Child is written where it is used",
}

SCENARIOS: dict[str, str] = merged(
    START,
    SPECS,
    STOP,
    STRATEGIES,
    ENDS,
    CALLS,
    DYNAMIC,
    SIGNIFICANT,
    ELIXIR,
    PARTITIONS,
    TASKS,
    MAPS,
    REASONS,
    PEERS,
)
