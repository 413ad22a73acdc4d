"""Reading the files and looking things up: what is asked for is read, and what is wrong is said in one sentence."""

from __future__ import annotations

import copy
import subprocess
import sys
from decimal import Decimal

import pytest
import yaml

from visir import publications
from visir.core.errors import ConfigError
from visir.publications import registry
from visir.publications.reading import parse, read

GOOD = """
publication: {key: made_up, title: A title, authors: A. Author, venue: V, year: 2020}
tables:
  - name: table1
    caption: c
    columns:
      - {protocol: regdb-v2t-img, figures: [rank1, mAP]}
      - {protocol: regdb-t2v-img, figures: [rank1, mAP]}
    rows:
      - {name: one, system: dfe/full, own: true, values: [[47.50, null], null], recalled: [null, [40, 41]]}
      - {name: two, system: null, values: [[1, 2], [3, 4]], corrected: [[9, null], null], errors: [rank1 is 9],
         missing: no code}
"""


@pytest.fixture
def content():
    return yaml.safe_load(GOOD.replace("47.50", "47"))  # plain YAML has no decimals


def test_what_a_file_holds(tmp_path):
    (tmp_path / "made_up.yaml").write_text(GOOD)
    made = read(tmp_path / "made_up.yaml")
    one, two = made.table("table1").rows
    assert str(one.printed["regdb-v2t-img"]["rank1"]) == "47.50"
    assert set(one.printed["regdb-v2t-img"]) == {"rank1"}
    assert one.published() == {"regdb-v2t-img": {"rank1": 47.5}}
    assert one.recalled["regdb-t2v-img"] == {"rank1": Decimal(40), "mAP": Decimal(41)}
    assert two.published()["regdb-v2t-img"] == {"rank1": 9.0, "mAP": 2.0}
    assert two.published(as_printed=True)["regdb-v2t-img"] == {"rank1": 1.0, "mAP": 2.0}
    assert (one.identity, two.identity) == ("dfe/full", "two")
    assert made.citation == "A. Author, A title, V 2020"
    with pytest.raises(TypeError):
        one.printed["regdb-v2t-img"]["rank1"] = Decimal(0)


ROW = ("tables", 0, "rows", 0)
OTHER = ("tables", 0, "rows", 1)
COLUMN = ("tables", 0, "columns", 0)


@pytest.mark.parametrize(
    ("place", "new", "message"),
    [
        (("table",), [], "made_up.yaml: unknown key 'table'. Did you mean 'tables'? Known: publication, tables."),
        (("tables",), [], "made_up.yaml, tables: expected a list with at least one entry, got []."),
        (("publication", "yaer"), 2020, "unknown key 'yaer'. Did you mean 'year'?"),
        (("publication", "year"), "2020", "expected the year as a whole number, got '2020'."),
        (("publication", "year"), True, "expected the year as a whole number, got True."),
        (("publication", "title"), "", "expected 'title' to be a text, got ''."),
        (("tables", 0, "name"), "Table 1", "expected a table name of lower-case letters, digits and hyphens"),
        (("tables", 0, "errors"), "one", "table1, errors: expected a list with at least one entry, got 'one'."),
        ((*COLUMN, "figures"), ["rank1", "mAPs"], "unknown figure 'mAPs'. Did you mean 'mAP'?"),
        ((*COLUMN, "figures"), ["mAP", "mAP"], "the figure 'mAP' is there twice"),
        ((*COLUMN, "protocol"), "regdb-t2v-img", "the column 'regdb-t2v-img' is there twice"),
        ((*ROW, "sytem"), None, "made_up.yaml, table1, a row: unknown key 'sytem'. Did you mean 'system'?"),
        ((*ROW, "name"), "two", "the row 'two' is there twice; give every one its own name."),
        ((*ROW, "system"), "DFE full", "row 'one': expected a system such as dfe/baseline, got 'DFE full'."),
        ((*ROW, "system"), None, "expected 'missing' with the reason exactly when 'system' is null."),
        ((*OTHER, "missing"), "", "expected 'missing' with the reason exactly when 'system' is null."),
        ((*ROW, "own"), "yes", "expected 'own' to be true or false, got 'yes'."),
        ((*ROW, "evidence"), "seen", "unknown evidence 'seen'."),
        ((*ROW, "ticks"), [1], "expected 'ticks' to be a list of texts, got [1]."),
        ((*ROW, "values"), [[1, 2]], "expected a list or null for each of 2 columns, got 1."),
        ((*ROW, "values"), [[1], None], "expected regdb-v2t-img to hold rank1, mAP, got 1 values."),
        ((*ROW, "values"), [[1, 100.5], None], "expected a percentage from 0 to 100"),
        ((*ROW, "values"), [[1, -1], None], "regdb-v2t-img, mAP: expected a percentage from 0 to 100, got -1."),
        ((*ROW, "values"), [[1, "2"], None], "expected a percentage from 0 to 100, got '2'."),
        ((*ROW, "values"), [[1, True], None], "expected a percentage from 0 to 100, got True."),
        ((*ROW, "values"), [[1, Decimal("NaN")], None], "expected a percentage from 0 to 100, got Decimal('NaN')."),
        ((*ROW, "values"), [None, None], "expected a number, or 'notes' that say why there is none."),
        ((*ROW, "corrected"), [[5, None], None], "expected 'errors' to say what 'corrected' mends."),
        ((*ROW, "recalled"), [[5, None], None], "regdb-v2t-img is printed; a recalled value has no place beside it."),
        (
            (*OTHER, "corrected"),
            [[1, None], None],
            "rank1 of regdb-v2t-img is corrected without another printed value.",
        ),
    ],
)
def test_a_wrong_file_is_told_in_one_sentence(content, place, new, message):
    *parents, last = place
    inner = content = copy.deepcopy(content)
    for part in parents:
        inner = inner[part]
    inner[last] = new
    if isinstance(new, list) and last == "values":
        inner[last] = [cell and [Decimal(str(n)) if isinstance(n, float) else n for n in cell] for cell in new]
    with pytest.raises(ConfigError) as raised:
        parse(content, where="made_up.yaml")
    text = str(raised.value)
    assert message in text
    assert text.startswith("made_up.yaml")
    assert "\n" not in text


@pytest.mark.parametrize("key", ["publication", "tables"])
def test_a_missing_key_is_named(content, key):
    del content[key]
    with pytest.raises(ConfigError, match=f"expected the key '{key}'; it is missing"):
        parse(content, where="made_up.yaml")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("other.yaml", GOOD, "expected the key 'other' after the file's name, got 'made_up'"),
        (
            "made_up.yaml",
            GOOD.replace("caption: c", "caption: c\n    caption: d"),
            "'caption' is given twice; keep one",
        ),
        ("made_up.yaml", "tables: [", "expected a readable YAML file"),
        ("made_up.yaml", "\n\ntables: {a: b", "expected a readable YAML file, got line [34]: "),
        ("made_up.yaml", GOOD.replace("47.50", ".inf"), r"line \d+: expected a number such as 47.50, got '.inf'"),
        ("made_up.yaml", GOOD.replace("47.50", "1:30.5"), "expected a number such as 47.50, got '1:30.5'"),
        ("made_up.yaml", "\x00", "expected a readable YAML file, got: unacceptable character"),
        ("made_up.yaml", "- 1", "expected 'key: value' pairs, got list"),
        ("made_up.yaml", "? [1, 2]\n: 3", "expected a readable YAML file"),
        ("made_up.yaml", None, "no such file of published numbers"),
    ],
)
def test_an_unreadable_file_is_told(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / name)


def test_find_takes_hyphens_and_names_the_nearest():
    assert publications.find("base-derivative") is publications.find("base_derivative")
    with pytest.raises(ConfigError, match="unknown publication 'base-derivate'. Did you mean 'base_derivative'"):
        publications.find("base-derivate")
    with pytest.raises(ConfigError, match="dfe: it has no table 'tabel4'. Did you mean 'table4'"):
        publications.find("dfe").table("tabel4")
    with pytest.raises(ConfigError, match=r"table4: it has no row 'Ours\(DFE'. Did you mean 'Ours\(DFE\)'"):
        publications.find("dfe").table("table4").row("Ours(DFE")


def test_figures_of_a_system():
    quotes = publications.figures("base-derivative/full", "regdb-v2t-img")
    assert [quote.table.name for quote in quotes] == ["table2", "table3", "table4"]
    assert quotes[0].figures == {"rank1": 80.67, "rank10": 87.72, "rank20": 90.45, "mAP": 78.83}
    assert publications.figures("dfe/full", "regdb-v2t-id") == []
    assert publications.figures("mylab/own", "regdb-v2t-img") == []


def test_figures_are_the_right_ones_where_the_print_is_wrong():
    quotes = publications.figures("zero_padding/zero-padding", "regdb-v2t-img")
    assert {quote.figures["mAP"] for quote in quotes} == {18.90}
    assert {quote.figures["mAP"] for quote in publications.figures("tone/hcml", "regdb-v2t-img")} == {20.80}
    assert {q.figures["rank20"] for q in publications.figures("tone", "sysu-all-1-official")} == {68.60}


def test_recalled_values_are_never_figures():
    assert publications.figures("dfe/full", "regdb-t2v-img") == []
    assert [q.publication.key for q in publications.figures("hsme/d-hsme", "regdb-t2v-img")] == []


def test_the_own_publication_comes_first():
    assert publications.figures("deen/full", "llcm-i2v")[0].row.own
    first = publications.figures("base_derivative/b2", "sysu-all-1-official")[0]
    assert first.publication.key == "base_derivative"


def test_one_publication_is_read_when_one_is_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(registry, "read", lambda path: asked.append(path.stem) or read(path))
    registry._read.cache_clear()
    registry.available()
    assert asked == []
    for _ in range(3):
        registry.find("ce2l")
    assert asked == ["ce2l"]
    registry._read.cache_clear()
    registry._by_system.cache_clear()
    for _ in range(3):
        registry.figures("dfe/full", "regdb-v2t-img")
    assert sorted(asked[1:]) == registry.available()


def test_a_lookup_imports_nothing_heavy():
    code = "from visir import publications as p; import sys; p.figures('dfe/full', 'regdb-v2t-img')\n"
    code += "print(sorted({'torch', 'numpy', 'pydantic', 'timm'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
