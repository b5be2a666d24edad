"""Token buckets and meters."""

from sessiond_server.quotas.rates import MAX_WAIT_S, Meter, TokenBucket

from .conftest import Clock


def test_a_bucket_holds_one_second_and_says_when_the_next_token_is_there(clock: Clock) -> None:
    bucket = TokenBucket(2, clock)
    assert [bucket.take(1), bucket.take(1)] == [0, 0]
    wait_s = bucket.take(1)
    assert wait_s == 0.5
    clock.now += wait_s
    assert bucket.take(1) == 0
    clock.now += 60
    assert [bucket.take(1), bucket.take(1)] == [0, 0]
    assert bucket.take(1) > 0


def test_refused_callers_are_told_different_times(clock: Clock) -> None:
    bucket = TokenBucket(10, clock)
    assert bucket.take(10) == 0
    waits = [round(bucket.take(1), 6) for _ in range(3)]
    assert waits == [0.1, 0.2, 0.3]
    assert max(bucket.take(1) for _ in range(1000)) == MAX_WAIT_S


def test_more_than_a_bucket_holds_is_given_at_once_and_paid_later(clock: Clock) -> None:
    bucket = TokenBucket(10, clock)
    assert bucket.take(50) == 0
    assert round(bucket.take(1), 6) == 4.1
    clock.now += 4
    assert bucket.take(1) > 0
    clock.now += 0.1
    assert bucket.take(1) == 0


def test_a_long_upload_leaves_half_of_the_bucket_to_other_calls(clock: Clock) -> None:
    bucket = TokenBucket(100, clock)
    taken = 0
    while not (part := bucket.take_slowly(1000))[1]:
        taken += part[0]
    assert taken == 50
    assert bucket.take(50) == 0
    assert bucket.take(1) > 0


def test_a_long_upload_advances_at_the_lowest_rate(clock: Clock) -> None:
    bucket = TokenBucket(1, clock)
    assert bucket.take_slowly(5) == (1, 0)
    assert bucket.take_slowly(5) == (0, 1)
    clock.now += 1
    assert bucket.take_slowly(5) == (1, 0)


def test_a_meter_counts_about_the_last_second(clock: Clock) -> None:
    meter = Meter(clock)
    meter.add(10)
    assert meter.rate() == 10
    clock.now += 1.5
    meter.add(2)
    assert meter.rate() == 2 + 5
    clock.now += 2
    assert meter.rate() == 0
