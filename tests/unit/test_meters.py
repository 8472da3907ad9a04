"""Prometheus' text format, as its specification has it."""

from cumulet.core.meters import Histogram, render


def test_a_histogram_counts_up_to_each_bound() -> None:
    """Buckets are cumulative, a value on a bound belongs below it, and the last bucket has all."""
    histogram = Histogram((1.0, 0.1))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(value)
    assert render("wait", "histogram", "How long.", histogram) == [
        "# HELP wait How long.",
        "# TYPE wait histogram",
        'wait_bucket{le="0.1"} 2',
        'wait_bucket{le="1.0"} 3',
        'wait_bucket{le="+Inf"} 4',
        "wait_sum 7.65",
        "wait_count 4",
    ]


def test_labels_are_escaped_and_in_order() -> None:
    """A quote, a backslash and a new line in a label cannot break a line."""
    lines = render("n", "gauge", "N.", {(("a", 'x"\\\n'),): 2.0, (("a", "b"),): 1})
    assert lines[2:] == ['n{a="b"} 1', 'n{a="x\\"\\\\\\n"} 2']
    assert render("n", "counter", "N.", 3)[2:] == ["n 3"]
