"""How much per second, over the last minute."""

from meadow_api.throughput import Throughput


def test_the_rate_is_that_of_the_last_minute() -> None:
    throughput = Throughput()
    for second in range(300):
        throughput.add(1000.0 + second, 10 if second < 240 else 30)
    assert throughput.per_second(1299.5) == 30.0


def test_a_short_time_is_not_stretched_to_a_minute() -> None:
    throughput = Throughput()
    for tenth in range(50):
        throughput.add(1000.0 + tenth / 10, 4)
    assert throughput.per_second(1005.0) == 40.0


def test_silence_lets_the_rate_fall_to_nothing() -> None:
    throughput = Throughput()
    assert throughput.per_second(5.0) == 0.0
    throughput.add(10.0, 600)
    assert throughput.per_second(69.0) > 10
    assert throughput.per_second(71.0) == 0.0
