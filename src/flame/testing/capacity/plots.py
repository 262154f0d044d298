"""The drawings of a report: shares over time, what tenants got against what they deserved, use."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil, floor, log10

from flame.model.ids import Tenant
from flame.testing.capacity.measures import Sample
from flame.testing.drawing import BLUE, COLORS, FLAME, GRAY, PALE, WIDTH, Drawing

#: Tenants with a line of their own; of more, the largest have one and the others are added up.
LINES = 7
_HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 420, 60, 150, 50, 360
_OTHERS = Tenant("others")

Place = Callable[[float, float], tuple[float, float]]


def draw(
    name: str, samples: Sequence[Sample], tenants: Sequence[tuple[Tenant, float, float]]
) -> Mapping[str, Drawing]:
    """Return the drawings by name. ``tenants``: with what they got and deserved on average."""
    if not samples or not tenants:
        return {}
    return {
        "shares": _shares(name, samples, tenants),
        "fairness": _fairness(name, tenants),
        "utilisation": _utilisation(name, samples),
    }


def _shares(
    name: str, samples: Sequence[Sample], tenants: Sequence[tuple[Tenant, float, float]]
) -> Drawing:
    largest = sorted(tenants, key=lambda t: (-t[1], t[0]))
    shown = [tenant for tenant, _, _ in largest[:LINES]]
    series = _series(samples, shown)
    most = max((v for lines in series.values() for line in lines for v in line), default=1.0)
    drawing, place = _axes(
        f"{name}: share of the cluster by tenant (dashed: deserved)", samples[-1].at, most
    )
    for index, (tenant, (got, deserved)) in enumerate(series.items()):
        color = COLORS[index % len(COLORS)]
        drawing.line(_points(samples, deserved, place), color, dashed=True)
        drawing.line(_points(samples, got, place), color, width=2)
        words = f"{len(tenants) - LINES} others" if tenant == _OTHERS else str(tenant)
        drawing.text(WIDTH - _RIGHT + 12, _TOP + 14 + 18 * index, _short(words), color=color)
    return drawing


def _series(
    samples: Sequence[Sample], shown: Sequence[Tenant]
) -> dict[Tenant, tuple[list[float], list[float]]]:
    series: dict[Tenant, tuple[list[float], list[float]]] = {t: ([], []) for t in shown}
    others: tuple[list[float], list[float]] = ([], [])
    for sample in samples:
        for tenant, (got, deserved) in series.items():
            share = sample.shares.get(tenant)
            got.append(share.got if share is not None else 0.0)
            deserved.append(share.deserved if share is not None else 0.0)
        rest = [share for tenant, share in sample.shares.items() if tenant not in series]
        others[0].append(sum(share.got for share in rest))
        others[1].append(sum(share.deserved for share in rest))
    if any(others[0]) or any(others[1]):
        series[_OTHERS] = others
    return series


def _fairness(name: str, tenants: Sequence[tuple[Tenant, float, float]]) -> Drawing:
    most = max((max(got, deserved) for _, got, deserved in tenants), default=1.0)
    drawing, place = _axes(
        f"{name}: mean share that each of {len(tenants)} tenants got, against what it deserved",
        most or 1.0,
        most or 1.0,
        unit="deserved",
    )
    drawing.line([place(0, 0), place(most or 1.0, most or 1.0)], GRAY, dashed=True)
    for _, got, deserved in tenants:
        drawing.dot(*place(deserved, got), FLAME, radius=3 if len(tenants) > 20 else 4)
    return drawing


def _utilisation(name: str, samples: Sequence[Sample]) -> Drawing:
    drawing, place = _axes(f"{name}: part of the cluster that executors hold", samples[-1].at, 1.0)
    names = [n for n, count in samples[-1].capacity.named() if count]
    for index, (resource, color) in enumerate(zip(names, (FLAME, BLUE, *COLORS[2:]), strict=False)):
        parts = [
            dict(s.used.named()).get(resource, 0) / (dict(s.capacity.named()).get(resource, 0) or 1)
            for s in samples
        ]
        drawing.line(_points(samples, parts, place), color, width=2)
        drawing.text(WIDTH - _RIGHT + 12, _TOP + 14 + 18 * index, _short(resource), color=color)
    return drawing


def _axes(
    title: str, longest: float, highest: float, unit: str = "seconds"
) -> tuple[Drawing, Place]:
    drawing = Drawing(_HEIGHT, title)
    longest, highest = longest or 1.0, highest or 1.0
    width, height = WIDTH - _LEFT - _RIGHT, _BOTTOM - _TOP

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + width * x / longest, _BOTTOM - height * y / highest

    for y in _ticks(highest):
        at = place(0, y)[1]
        drawing.line([(_LEFT, at), (WIDTH - _RIGHT, at)], PALE)
        drawing.text(_LEFT - 8, at + 4, f"{y:.4g}", anchor="end", color=GRAY)
    for x in _ticks(longest):
        at = place(x, 0)[0]
        drawing.line([(at, _TOP), (at, _BOTTOM)], PALE)
        drawing.text(at, _BOTTOM + 18, f"{x:,.4g}", anchor="middle", color=GRAY)
    drawing.text(_LEFT + width / 2, _BOTTOM + 42, unit, anchor="middle")
    return drawing, place


def _ticks(most: float) -> Iterable[float]:
    """Return round numbers from 0 to ``most``, about five."""
    step = 10.0 ** floor(log10(most / 5))
    step *= next(k for k in (1, 2, 5, 10) if most / (step * k) <= 6)
    return [step * k for k in range(ceil(most / step) + 1) if step * k <= most * 1.001]


def _points(
    samples: Sequence[Sample], values: Sequence[float], place: Place
) -> list[tuple[float, float]]:
    """Return the line, as steps: what was seen holds until the next sample."""
    points: list[tuple[float, float]] = []
    for sample, value in zip(samples, values, strict=True):
        if points:
            points.append((place(sample.at, 0)[0], points[-1][1]))
        points.append(place(sample.at, value))
    return points


def _short(words: str) -> str:
    return words if len(words) <= 20 else f"…{words[-19:]}"
