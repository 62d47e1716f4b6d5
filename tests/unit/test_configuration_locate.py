import tomllib

from hypothesis import given
from hypothesis import strategies as st

from hub.configuration.locate import Lines

TEXT = '''\
"a.b" = 1
c.d = [ # ]
  "x]", """[[route]]
""",
]
long = """
[not.a.table]
key = 1 \\"""" # ""
literal = \'\'\'
e = 1\'\'\'\'
[t]
  'e' = { f = 1 }
[[list]]
k = 1
[list.inner]
k = 2
[[list]]
k = 3
[[list.deep]]
k = 4
'''


def test_lines_of_keys_and_tables() -> None:
    assert tomllib.loads(TEXT)["list"][1]["deep"] == [{"k": 4}]
    lines = Lines(TEXT)
    places: dict[tuple[str | int, ...], int] = {
        ("a.b",): 1,
        ("c", "d"): 2,
        ("long",): 6,
        ("literal",): 9,
        ("t",): 11,
        ("t", "e"): 12,
        ("t", "e", "f"): 12,
        ("list", 0): 13,
        ("list", 0, "k"): 14,
        ("list", 0, "inner", "k"): 16,
        ("list", 1, "k"): 18,
        ("list", 1, "deep", 0): 19,
        ("list", 1, "deep", 0, "k"): 20,
        ("list", 1, "tag-of-a-union", "k"): 18,
        ("list", 1, "missing"): 17,
        ("missing",): 1,
        ("not",): 1,
        (): 1,
    }
    assert {path: lines.of(path) for path in places} == places


@given(st.text(alphabet="ab.=[]{}\"'#\\\n ,1", max_size=60))
def test_lines_never_fail_on_what_toml_takes(text: str) -> None:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = Lines(text)
    for key in data:
        assert 1 <= lines.of((key,)) <= max(1, text.count("\n") + 1)
