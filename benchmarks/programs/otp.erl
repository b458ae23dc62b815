%% Erlang/OTP: a supervisor with a list of children, and one with a child that crashes.
-module(otp).
-behaviour(supervisor).
-export([main/1, init/1, idle/0, idle_loop/0, crashing/1, crash_loop/1]).

main([Text]) ->
    Count = list_to_integer(Text),
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    {Start, Stop} = life(Count),
    io:format("~p ~p ~p~n", [Start / 1.0e6, Stop / 1.0e6, restarts(Count) / 1.0e6]),
    halt(0).

init(Spec) -> {ok, Spec}.

life(Count) ->
    Children = [#{id => N, start => {otp, idle, []}} || N <- lists:seq(1, Count)],
    {Start, {ok, Sup}} =
        timer:tc(fun() -> supervisor:start_link(otp, {#{}, Children}) end),
    {Stop, ok} = timer:tc(fun() ->
        exit(Sup, shutdown),
        receive {'EXIT', Sup, _} -> ok end
    end),
    {Start, Stop}.

idle() -> {ok, proc_lib:spawn_link(otp, idle_loop, [])}.

idle_loop() -> receive stop -> ok end.

restarts(Count) ->
    Flags = #{intensity => 10 * Count, period => 1},
    Child = #{id => one, start => {otp, crashing, [self()]}},
    {Time, ok} = timer:tc(fun() ->
        {ok, _} = supervisor:start_link(otp, {Flags, [Child]}),
        wait(Count + 1)
    end),
    Time.

wait(0) -> ok;
wait(Left) -> receive {up, Pid} -> Pid ! {crash, Left}, wait(Left - 1) end.

%% Started when it has told so, as a child of spry_py is.
crashing(Parent) -> proc_lib:start_link(otp, crash_loop, [Parent]).

crash_loop(Parent) ->
    proc_lib:init_ack({ok, self()}),
    Parent ! {up, self()},
    receive
        {crash, 1} -> receive stop -> ok end;
        {crash, _} -> exit(crash)
    end.
