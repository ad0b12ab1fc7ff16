"""Which frames are chosen."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoppable.decoder.domain import NS_PER_S, EveryNthFrame, FramesPerSecond, KeyframesOnly, Order
from shoppable.decoder.sampling import Foresight, Sampler, Verdict

MS = NS_PER_S // 1000


def chosen(
    order: Order, times_ns: list[int], *, tick_ns: int = 1, keyframes: frozenset[int] = frozenset()
) -> list[int]:
    sampler = Sampler(order, tick_ns=tick_ns)
    sent = []
    for position, time_ns in enumerate(times_ns):
        verdict = sampler.judge(time_ns, keyframe=position in keyframes)
        if verdict is Verdict.PAST_END:
            break
        if verdict is Verdict.SEND:
            sent.append(time_ns)
    return sent


rising = st.lists(st.integers(0, 20_000), max_size=80, unique=True).map(lambda times: [t * MS for t in sorted(times)])
rates = st.fractions(min_value=Fraction(1, 100), max_value=240, max_denominator=1000)


@given(rising, rates)
def test_each_interval_gives_its_first_frame_and_no_other(times, rate):
    sent = chosen(Order(sampling=FramesPerSecond(rate)), times)
    firsts = {}
    for time_ns in times:
        # Half a tick, here 1 ns, makes up for times that were rounded down.
        firsts.setdefault(int((time_ns + 1) * rate / NS_PER_S), time_ns)
    assert sent == list(firsts.values())


@given(rising, rates, st.integers(0, 20_000), st.integers(1, 20_000))
def test_all_frames_sent_lie_in_the_span_and_rise(times, rate, start_ms, length_ms):
    order = Order(FramesPerSecond(rate), start_ns=start_ms * MS, end_ns=(start_ms + length_ms) * MS)
    sent = chosen(order, times)
    assert all(order.start_ns <= time_ns < order.end_ns for time_ns in sent)
    assert sent == sorted(set(sent))
    wanted = [time_ns for time_ns in times if order.start_ns <= time_ns < order.end_ns]
    assert sent[:1] == wanted[:1]  # the first frame of the span is the first frame sent


@given(rising, st.integers(1, 50), st.integers(0, 20_000))
def test_every_nth_counts_from_the_first_frame_of_the_span(times, n, start_ms):
    sent = chosen(Order(EveryNthFrame(n), start_ns=start_ms * MS), times)
    assert sent == [time_ns for time_ns in times if time_ns >= start_ms * MS][::n]


@given(rising, st.frozensets(st.integers(0, 79)))
def test_keyframes_only_sends_all_key_frames(times, keyframes):
    sent = chosen(Order(KeyframesOnly()), times, keyframes=keyframes)
    assert sent == [time_ns for position, time_ns in enumerate(times) if position in keyframes]


@given(st.lists(st.integers(0, 5000), max_size=60))
def test_times_that_run_backwards_are_never_sent(times):
    sent = chosen(Order(EveryNthFrame(1)), times)
    assert sent == sorted(set(sent))


@pytest.mark.parametrize("rate", [24, 25, 30, 50, 60])
def test_a_video_with_rounded_times_sampled_at_its_own_rate_loses_no_frame(rate):
    times = [round(Fraction(number * 1000, rate)) * MS for number in range(rate * 10)]
    assert chosen(Order(FramesPerSecond(Fraction(rate))), times, tick_ns=MS) == times


def test_a_time_that_was_sent_starts_at_the_same_frame():
    times = [number * NS_PER_S // 3 for number in range(9)]
    for time_ns in times:
        assert chosen(Order(EveryNthFrame(1), start_ns=time_ns), times)[0] == time_ns
        assert time_ns not in chosen(Order(EveryNthFrame(1), end_ns=time_ns or 1), times[1:])


@given(rising, rates, st.integers(0, 20_000), st.randoms(use_true_random=False))
def test_frames_that_foresight_rules_out_are_never_missed(times, rate, start_ms, random):
    """Packets come in whatever order; of the frames that are left, the sampler picks the same."""
    order = Order(FramesPerSecond(rate), start_ns=start_ms * MS)
    foresight = Foresight(rate, start_ns=order.start_ns, tick_ns=1)
    packets = sorted(times, key=lambda time_ns: times.index(time_ns) + random.randrange(16))
    left = {time_ns for time_ns in packets if not foresight.rules_out(time_ns)}
    assert chosen(order, sorted(left)) == chosen(order, times)


def test_foresight_rules_out_what_follows_in_an_interval():
    foresight = Foresight(Fraction(1), start_ns=0, tick_ns=1)
    out = [foresight.rules_out(time_ns * MS) for time_ns in (0, 400, 200, 1300, 1100, 1200)]
    assert out == [False, True, True, False, False, True]
