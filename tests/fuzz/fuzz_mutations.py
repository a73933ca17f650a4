r"""How inputs are broken: blindly, byte by byte, and with a knowledge of lines, JSON and YAML.

Blind mutations find what happens to damaged files; those that know the form get past the parser, to the code that believes it.
"""

import copy
import json
import random
import re

from fuzz_engine import Mutation

NUMBERS = (
    b"-1",
    b"0",
    b"1",
    b"255",
    b"65536",
    b"2147483648",
    b"4294967295",
    b"9223372036854775808",
    b"1e999",
    b"-1e999",
    b"nan",
    b"1" * 30,
)
BYTES = (
    b"\0",
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\r",
    b"\n",
    b"\t",
    b'"',
    b"'",
    b",",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
)
BYTES += (b":", b"#", b"|", b"../", b"/", b"%s", b"\xe2\x80\xa8", b"\xc2\x85", b"\x1c", b" ", b"\0" * 64, b"=", b"*", b"&a", b"!!", b"<<")


def blind(draw: random.Random, data: bytes) -> bytes:
    """One of the mutations that know nothing."""
    return draw.choice((_flip, _cut, _drop, _repeat, _splice, _zeros, _insert, _number, _noise))(draw, data)


def _span(draw: random.Random, data: bytes, longest: int = 64) -> tuple[int, int]:
    start = draw.randrange(len(data) + 1)
    return start, min(len(data), start + draw.randrange(1, longest))


def _flip(draw: random.Random, data: bytes) -> bytes:
    broken = bytearray(data)
    for _ in range(draw.randrange(1, 5)):
        if broken:
            broken[draw.randrange(len(broken))] ^= 1 << draw.randrange(8)
    return bytes(broken)


def _cut(draw: random.Random, data: bytes) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _drop(draw: random.Random, data: bytes) -> bytes:
    start, end = _span(draw, data)
    return data[:start] + data[end:]


def _repeat(draw: random.Random, data: bytes) -> bytes:
    start, end = _span(draw, data)
    return data[:end] + data[start:end] * draw.choice((1, 2, 100, 2_000)) + data[end:]


def _splice(draw: random.Random, data: bytes) -> bytes:
    (start, end), at = _span(draw, data), draw.randrange(len(data) + 1)
    return data[:at] + data[start:end] + data[at:]


def _zeros(draw: random.Random, data: bytes) -> bytes:
    start, end = _span(draw, data)
    return data[:start] + bytes(end - start) + data[end:]


def _insert(draw: random.Random, data: bytes) -> bytes:
    at = draw.randrange(len(data) + 1)
    return data[:at] + draw.choice(BYTES) + data[at:]


def _noise(draw: random.Random, data: bytes) -> bytes:
    start, end = _span(draw, data, 16)
    return data[:start] + draw.randbytes(end - start) + data[end:]


def _number(draw: random.Random, data: bytes) -> bytes:
    found = list(re.finditer(rb"\d+", data))
    if not found:
        return _flip(draw, data)
    place = draw.choice(found)
    return data[: place.start()] + draw.choice((*NUMBERS, b"9" * 5_000)) + data[place.end() :]


def lines(draw: random.Random, data: bytes) -> bytes:
    """Lines, and cells of csv and tsv, out of order."""
    rows = data.split(b"\n")
    at, other = draw.randrange(len(rows)), draw.randrange(len(rows))
    kind = draw.randrange(6)
    if kind == 0:
        rows[at], rows[other] = rows[other], rows[at]
    elif kind == 1:
        rows.insert(at, rows[other])
    elif kind == 2:
        del rows[at]
    elif kind == 3:
        rows[at] = draw.choice((b"", b" ", b"\t", b",", b'"', b'"a\nb"', b"x" * 140_000, b'"' + b"x" * 140_000 + b'"', b"\xa0,\xa0"))
    else:
        cells = re.split(rb"([,\t#])", rows[at])
        cells[draw.randrange(len(cells))] = draw.choice((b"", *BYTES, *NUMBERS, b"../../x.jpg", b"/etc/passwd"))
        rows[at] = b"".join(cells)
    return b"\n".join(rows)


# JSON and YAML --------------------------------------------------------------------------------------------------------

DEEP = 30_000
RAW_JSON = (
    *("null", "true", "false", "0", "-1", "1.5", "NaN", "Infinity", "-Infinity", "1e400", "-0.0", "2" * 30, "9" * 4_300, "9" * 5_000),
    *('""', '" "', '"x"', '"\\ud800"', '"\\u0000"', '"\\u2028"', '"../../x.jpg"', '"/etc/passwd"', '"C:\\\\x"', '"train"', '"9.jpg"'),
    *("[]", "{}", "[null]", "[[]]", '[""]', '[1, "a", null, {}]', '{"a": 1}', '{"": []}', '{"\\ud800": "\\ud800"}', "[" * 900 + "]" * 900),
    *("[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP, '"' + "x" * 100_000 + '"', '"' + "9" * 5_000 + '.jpg"', "bad", ""),
)
RAW_YAML = (
    *("null", "~", "true", "no", "0", "-1", "1.5", ".nan", ".inf", "-.inf", "1e400", "0x" + "f" * 5_000, "0b1", "0o7", "1_0", "190:20:30"),
    *(
        "9" * 400,
        "9" * 5_000,
        "1000000000000",
        "2001-99-99",
        "2001-01-01",
        "2001-01-01 25:99:99",
        "=",
        "<<",
        "- a",
        "[a, b",
        "{a",
        '"',
        "%",
    ),
    *("!!int ''", "!!int x", "!!float x", "!!bool x", "!!timestamp x", "!!binary x", "!!null 1", "!!set {a}", "!!omap [a]", "!!pairs [a]"),
    *("!!python/object/apply:os.system ['exit 7']", "!!python/name:os.system", "!!python/object:os.PathLike {}", "!x 1", "!<tag:x> 1"),
    *("&a [*a]", "&a {*a : 1}", "*missing", "{? [1] : 2}", "{<<: 1}", "{<<: [1]}", "{1: 2}", "[0.1, 0.2, 0.3]", "[]", "{}", "[[1]]"),
    *('"\\ud800"', '"\\0"', "'" + "x" * 50_000 + "'"),
    "{laughs: [&a [x, x], &b [*a, *a], " + ", ".join(f"&{chr(c + 1)} [*{chr(c)}, *{chr(c)}]" for c in range(98, 121)) + "]}",
    "[&a [x, x], " + ", ".join(f"&{chr(c + 1)} [*{chr(c)}, *{chr(c)}]" for c in range(97, 121)) + "]",
)
DEEP_YAML = "[" * 350 + "]" * 350  # half a second of PyYAML's, so not often
MARK = "\u2603"


def json_values(extra: tuple[str, ...] = ()) -> Mutation:
    """Some value of a JSON text in place of which stands another, or a key doubled or renamed; `extra` values as raw JSON."""
    raw = RAW_JSON + extra

    def mutate(draw: random.Random, data: bytes) -> bytes:
        try:
            tree = json.loads(data)
        except (ValueError, RecursionError):
            return blind(draw, data)
        try:
            text = json.dumps(_marked(draw, tree), ensure_ascii=True)
        except (ValueError, RecursionError):
            return blind(draw, data)
        if draw.random() < 0.1:
            text = re.sub(r'"(\w+)": ', lambda key: f'"{key[1]}": {draw.choice(raw[:30])}, {key[0]}', text, count=draw.randrange(1, 3))
        return text.replace(json.dumps(MARK), draw.choice(raw)).encode()

    return mutate


def yaml_values(draw: random.Random, data: bytes) -> bytes:
    """Some value of a YAML text in place of which stands another, or something that only YAML has."""
    import yaml

    if b"*" in data:  # a tree with aliases may be of any size
        return blind(draw, data)
    try:
        tree = yaml.load(data, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        text = json.dumps(_marked(draw, tree))  # JSON is YAML, nearly
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, KeyError, IndexError, AttributeError):
        return blind(draw, data)
    return text.replace(json.dumps(MARK), raw_yaml(draw)).encode()


def raw_yaml(draw: random.Random) -> str:
    return DEEP_YAML if draw.random() < 0.001 else draw.choice(RAW_YAML)


def _marked(draw: random.Random, tree: object) -> object:
    """The tree with MARK in the place of one node, or of one name, or with one entry doubled or gone."""
    tree = copy.deepcopy(tree)
    places = list(_places(tree))
    if not places:
        return MARK
    holder, key = draw.choice(places)
    kind = draw.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.insert(key, holder[draw.randrange(len(holder))])
    elif kind == 2 and isinstance(holder, dict):
        holder[draw.choice(("", "x", "__class__", "\ud800", "id", "split", f"{key} "))] = holder.pop(key)
    elif kind == 3 and isinstance(holder, dict):
        other = draw.choice(places)
        holder[key] = copy.deepcopy(other[0][other[1]])
    else:
        holder[key] = MARK
    return tree


def _places(tree: object, depth: int = 0):
    """Everything that can be replaced, as a container and a key."""
    if depth < 50 and isinstance(tree, (dict, list)):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _places(tree[key], depth + 1)


def mixed(*mutations: Mutation) -> Mutation:
    """Each time one of several."""
    return lambda draw, data: draw.choice(mutations)(draw, data)
