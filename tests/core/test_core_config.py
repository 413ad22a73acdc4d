from dataclasses import dataclass, field
from typing import Literal

import pytest

from visir.core import config
from visir.core.draws import IdentityBalanced, Pairs, Stream
from visir.core.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    margin: float = 0.3
    size: tuple[int, int] = (2, 3)


@dataclass(frozen=True)
class Outer:
    name: str = "x"
    mode: Literal["a", "b"] = "a"
    inner: Inner = field(default_factory=Inner)
    stream: Stream = field(default_factory=Stream)


def test_nested_values_and_defaults():
    made = config.parse(Outer, {"inner": {"margin": 1, "size": [4, 5]}})
    assert made == Outer(inner=Inner(1.0, (4, 5)))


@dataclass(frozen=True)
class Particular:
    stream: Stream = field(default_factory=lambda: Stream(IdentityBalanced(5, 2), height=384, width=128))


def test_what_is_left_out_is_as_the_class_itself_has_it():
    made = config.parse(Particular, {"stream": {"height": 64, "draw": {"images": 3}}})
    assert made.stream == Stream(IdentityBalanced(5, 3), height=64, width=128)
    replaced = config.parse(Particular, {"stream": {"draw": {"kind": "pairs", "pairs": 7}}})
    assert replaced.stream == Stream(Pairs(7), height=384, width=128)
    with pytest.raises(ConfigError, match="stream.draw.pairs: unknown key"):
        config.parse(Particular, {"stream": {"draw": {"pairs": 3}}})


def test_unions_are_chosen_by_kind():
    made = config.parse(Outer, {"stream": {"draw": {"kind": "identity_balanced", "identities": 3}}})
    assert made.stream.draw == IdentityBalanced(identities=3)
    assert config.parse(Outer, {"stream": {"draw": {"kind": "pairs", "pairs": 5}}}).stream.draw == Pairs(5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nam": "y"}, "nam: unknown key 'nam'. Did you mean 'name'"),
        ({"inner": {"margn": 1}}, "inner.margn: unknown key 'margn'. Did you mean 'margin'"),
        ({"stream": {"draw": {"kind": "identity_balanced", "pairs": 3}}}, "stream.draw.pairs: unknown key"),
        ({"mode": "c"}, "mode: .*'a' or 'b'"),
        ({"inner": {"margin": "wide"}}, "inner.margin: .*number"),
    ],
)
def test_bad_values_name_their_place(values, message):
    with pytest.raises(ConfigError, match=message):
        config.parse(Outer, values)


def test_plain_and_digest_go_round():
    made = Outer(inner=Inner(0.5))
    assert config.parse(Outer, config.plain(made)) == made
    assert config.digest(made) == config.digest(Outer(inner=Inner(0.5))) != config.digest(Outer())


def test_yaml_errors_are_sentences(tmp_path):
    with pytest.raises(ConfigError, match="no such configuration file"):
        config.read_yaml(tmp_path / "none.yaml")
    (tmp_path / "a.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match="line 1: expected YAML, got"):
        config.read_yaml(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match=r"got '\[1\]'"):
        config.read_yaml(tmp_path / "b.yaml")


def test_dotted_keys():
    values = {"a": {"b": 1}, "c": 2}
    config.set_dotted(values, "a.d.e", 3)
    assert values == {"a": {"b": 1, "d": {"e": 3}}, "c": 2}
    with pytest.raises(ConfigError, match="'c' holds a value"):
        config.set_dotted(values, "c.x", 1)
