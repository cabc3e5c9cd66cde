"""Mermaid flowcharts: one statement a node and an edge, and a class a sort."""

import pytest

from gradwire.graph import Edge, Graph, Leaf, Op
from tests.unit.client.graph.samples import FLOATS, tutorial


def test_the_tutorial() -> None:
    assert tutorial().to_mermaid("right").splitlines() == [
        "flowchart LR",
        '    n10(["x<br/>float32 [1]"]):::leaf',
        '    n11["Add (+2)<br/>AddBackward0<br/>float32 [1]"]:::op',
        '    t2("z"):::intermediate',
        '    n12["Pow (#42;#42;2)<br/>PowBackward0<br/>float32 [1]"]:::op',
        '    t3{{"y<br/>float32 [1]"}}:::result',
        "    n10 --> n11",
        "    n11 --> t2",
        "    t2 --> n12",
        "    n12 --> t3",
        "    classDef leaf fill:#dbeafe,stroke:#2563eb,color:#1e3a8a",
        "    classDef op fill:#f8fafc,stroke:#64748b,color:#0f172a",
        "    classDef intermediate fill:#f3e8ff,stroke:#9333ea,color:#581c87",
        "    classDef result fill:#dcfce7,stroke:#16a34a,color:#14532d",
    ]


def test_several_inputs_are_numbered() -> None:
    graph = Graph(
        (Leaf("a"), Op("b", 1, "MulBackward0", "mul", (), (FLOATS,))),
        (Edge("a", "b"), Edge("a", "b", 0, 1)),
    )
    assert [line.strip() for line in graph.to_mermaid().splitlines() if "-->" in line] == [
        "a -->|0| b",
        "a -->|1| b",
    ]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ('"]; click', "#34;]#59; click"),
        ("<img src=x onerror=alert(1)>", "#60;img src=x onerror=alert(1)#62;"),
        ("#quot; &amp;", "#35;quot#59; #38;amp#59;"),
        ("`code` _i_ **b**", "#96;code#96; #95;i#95; #42;#42;b#42;#42;"),
        ("two\nlines", "two lines"),
    ],
)
def test_hostile_names_stay_inside_their_label(name: str, label: str) -> None:
    assert Graph((Leaf("a", name),)).to_mermaid().splitlines()[1] == f'    a(["{label}"]):::leaf'
