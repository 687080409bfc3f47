"""Tables: what their files may look like, what their columns are, and what becomes of their cells."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equilib_torch import InputError, load_dataset
from equilib_torch.data import describe
from equilib_torch.data.cells import number, parse_numbers
from equilib_torch.data.kinds import Declared, infer, read_declaration, write_declaration
from equilib_torch.data.rows import Table
from equilib_torch.data.split import make_splits
from equilib_torch.data.table import declared_by, read_new_rows
from equilib_torch.data.textfiles import read_csv

N = 40


def columns(**changes):
    """Columns of a small table, as strings."""
    rng = np.random.default_rng(0)
    found = {
        "age": [f"{x:.3f}" for x in rng.normal(50, 9, N)],
        "colour": [["red", "green", "blue"][k % 3] for k in range(N)],
        "label": [["yes", "no"][k % 2] for k in range(N)],
    } | changes
    return {name: cells for name, cells in found.items() if cells is not None}


@pytest.fixture
def write(tmp_path):
    """Write columns as a .csv file and give its path."""

    def to(separator=",", encoding="utf-8", name="table.csv", **changes):
        frame = pd.DataFrame(columns(**changes))
        frame.to_csv(tmp_path / name, sep=separator, encoding=encoding, index=False)
        return str(tmp_path / name)

    return to


@pytest.fixture
def written(tmp_path):
    """Write the text of a file and give its path."""

    def to(text, name="table.csv"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(tmp_path / name)

    return to


def kinds(dataset):
    return {column["column"]: column["kind"] for column in dataset.schema["columns"]}


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("separator", "encoding", "note"),
    [
        (",", "utf-8", ""),
        (";", "utf-8-sig", "separator ';'"),
        ("\t", "utf-16", "separator 'tab'"),
        ("|", "utf-8", "separator '|'"),
    ],
)
def test_separator_and_byte_order_mark_are_found(write, separator, encoding, note):
    dataset = load_dataset(write(separator, encoding, text=[f"a, b; c | {k} ü" for k in range(N)]))
    assert kinds(dataset) == {"age": "number", "colour": "category", "text": "text"}
    assert dataset.modalities[1].values[3] == "a, b; c | 3 ü"
    assert list(dataset.notes) == ([note] if note else [])


def test_other_encodings_are_named_by_their_first_byte_and_read_when_said(write):
    path = write(encoding="cp1252", text=[f"café für {k} €" for k in range(N)])
    offset = Path(path).read_bytes().index(b"\xe9")
    with pytest.raises(InputError, match=rf"byte 0xe9 at offset {offset} \(line 2\); .*--encoding cp1252"):
        load_dataset(path)
    assert load_dataset(path, encoding="cp1252").modalities[1].values[0] == "café für 0 €"
    for encoding in ("no-such", "rot13", "base64"):
        with pytest.raises(InputError, match="encoding must be one that Python knows"):
            load_dataset(path, encoding=encoding)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("\n \n", "the file is empty"),
        ("a,label\n", "holds no rows"),
        ("a,b,a,label\n1,2,3,x\n", "got 'a' in columns 1 and 3"),
        ("a, a ,label\n1,2,x\n", "got 'a' in columns 1 and 2"),
        ("a,label\n1,x\n2,y,3\n", r"line 3 has 3 cells, the header has 2 \(separator ','\)"),
        ('a,label\n"1\n2",x\n3\n', "line 4 has 1 cells, the header has 2"),
        ('a,label\n1,x\n"2,y\n3,z\n', "line 3: the record that begins here is broken"),
        ('a,label\n"1"2,x\n', "line 2: the record that begins here is broken"),
        ("a,,label\n1,2,x\n3,4,y\n", "column 2 has no name"),
        ("just one column\nx\n", "label: there is no column 'label', only just one column"),
        ("label\nx\ny\n", "needs a column of data besides 'label'"),
    ],
)
def test_broken_files_are_refused_by_line(written, text, message):
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(written(text))
    assert "table.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_quotes_blank_lines_and_long_cells_are_read(written):
    long = "x" * 200_000
    path = written(f'text,label\r\n"a ""b"", c\nd",x\r\n\r\n,\r\n"{long}",y\r\n')
    table = read_csv(Path(path), None)
    assert table.columns["text"] == ['a "b", c\nd', long]
    assert table.lines == [2, 6]


def test_columns_that_spreadsheets_and_pandas_add_are_left_out(written):
    table = read_csv(Path(written(",age,label,,\n0,31,x,,\n1,32,y,,\n")), None)
    assert list(table.columns) == ["age", "label"]
    assert table.notes == ("column 1 has no name and counts the rows: it is left out",)


def test_the_same_table_in_every_format_is_the_same_data(tmp_path, write):
    frame = pd.DataFrame(columns(note=[f"words and more words {k}" for k in range(N)]))
    frame.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    datasets = [load_dataset(tmp_path / f"a.{end}") for end in ("tsv", "parquet", "jsonl")] + [load_dataset(frame)]
    assert len({dataset.fingerprint for dataset in datasets}) == 1
    assert {str(kinds(dataset)) for dataset in datasets} == {"{'age': 'number', 'colour': 'category', 'note': 'text'}"}


def test_types_of_frames_and_parquet_are_kept(tmp_path):
    frame = pd.DataFrame(
        {
            "whole": range(N),
            "gaps": pd.array([None, 2**62] * (N // 2), dtype="Int64"),
            "flag": [True, False] * (N // 2),
            "when": pd.date_range("2020-01-01", periods=N, tz="Europe/Paris"),
            "day": [datetime.date(2020, 1, 1 + k % 28) for k in range(N)],
            "kind": pd.Categorical(["a", "b", None, "a"] * (N // 4)),
            "label": np.arange(N) % 2,
        },
        index=pd.Index(range(10, 10 + N), name="key"),
    )
    frame.to_parquet(tmp_path / "t.parquet")
    read = [load_dataset(frame), load_dataset(tmp_path / "t.parquet")]
    assert read[0].fingerprint == read[1].fingerprint
    assert kinds(read[0]) == {
        "whole": "number",
        "gaps": "number",
        "flag": "category",
        "when": "date",
        "day": "date",
        "kind": "category",
    }
    assert read[0].classes == (0, 1)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ([1, 2], "got list in row 5; give the single values"),
        ({"bytes": b"", "path": "a.png"}, "got dict in row 5; save the pictures or sounds as files"),
        (b"\x89PNG", "got bytes in row 5; save the pictures"),
        (datetime.timedelta(1), "got [Tt]imedelta in row 5; write it as a text"),
    ],
)
def test_cells_of_no_single_value_are_refused_unless_dropped(cell, message):
    frame = pd.DataFrame(columns()).assign(x=[None] * 5 + [cell] * (N - 5))
    with pytest.raises(InputError, match=f"column 'x': .*{message}.*--drop x"):
        load_dataset(frame)
    assert load_dataset(frame, drop=["x"]).names == ("table",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "label": 0}\n[1]\n', "line 2: must be a JSON object, got list"),
        ('{"a": 1, "label": 0}\n\n{"a": \n', "line 3: must be a JSON object"),
        ('{"a": 1, "a": 2, "label": 0}\n', "line 1: keys must be distinct, got 'a' twice"),
        ("[" * 100_000, "line 1: must be a JSON object"),
        ('{"a": "\\ud800", "label": 0}\n', "line 1: must be a JSON object"),
        ('{"a": [1], "label": 0}\n{"label": 1}\n', r"column 'a': .*got list in row 0 \(line 1\)"),
    ],
)
def test_broken_jsonl_is_refused_by_line(written, text, message):
    with pytest.raises(InputError, match=message):
        load_dataset(written(text, "t.jsonl"))


def test_damaged_parquet_and_files_that_are_none_are_refused(written, tmp_path):
    for content in (b"", b"PAR1 no parquet", b"x" * 100):
        with pytest.raises(InputError, match=r"t\.parquet.*cannot be read as a \.parquet file"):
            load_dataset(written(content, "t.parquet"))
    with pytest.raises(InputError, match="no such file"):
        load_dataset(tmp_path / "none.csv")
    with pytest.raises(InputError, match="not a regular file"):
        load_dataset("/dev/null/x.csv" if Path("/dev/null/x.csv").exists() else _pipe(tmp_path))


def _pipe(folder):
    import os

    os.mkfifo(folder / "pipe.csv")
    return folder / "pipe.csv"


def test_frames_with_unusable_names_are_refused():
    frame = pd.DataFrame([[1, 2, "x"]], columns=["a", "a", "label"])
    with pytest.raises(InputError, match="got 'a' in columns 1 and 2"):
        load_dataset(frame)
    with pytest.raises(InputError, match="one name each"):
        load_dataset(pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])))
    with pytest.raises(InputError, match="mapping of arrays, got list"):
        load_dataset([1, 2])


# --- labels ----------------------------------------------------------------------------------------------------------


def test_labels_are_stripped_but_not_merged(write, capsys):
    labels = ["red", " red", "red ", "Red", "blue", "blue"] + ["blue", "red"] * 17
    dataset = load_dataset(write(label=labels, age=[str(k) for k in range(N)], colour=None))
    assert dataset.classes == ("Red", "blue", "red")
    assert "blanks around labels are left out, as in ' red' in row 1 (line 3) and 1 more" in dataset.notes[0]
    warned = capsys.readouterr().err
    assert "'Red' and 'red' are different classes" in warned
    assert "1 of 3 classes have one row only ('Red')" in warned
    assert 3 in dataset.splits["train"]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["1", "2"], (1, 2)),
        (["01", "2"], ("01", "2")),
        (["True", "False"], ("False", "True")),
        (["None", "NA"], ("NA", "None")),
        ([True, False], (0, 1)),
        ([1.0, 2.0], (1, 2)),
        (["9" * 30, "1"], ("1", "9" * 30)),
    ],
)
def test_labels_are_whole_numbers_or_names(labels, classes):
    assert load_dataset(pd.DataFrame(columns(label=labels * (N // 2)))).classes == classes


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["x", "", "y", ""], r"every row needs a label, row 1 \(line 3\) \(and 19 more\) has none"),
        (["0.5", "1"], r"got '0\.5' in row 0 \(line 2\)"),
        (["x", "x"], "needs two or more classes, got only 'x'"),
    ],
)
def test_labels_that_are_no_classes_are_refused(write, labels, message):
    with pytest.raises(InputError, match=message):
        load_dataset(write(label=labels * (N // len(labels))))


def test_another_column_can_be_the_label(write):
    path = write()
    assert load_dataset(path, label="colour", drop=["label"]).classes == ("blue", "green", "red")
    with pytest.raises(InputError, match=r"there is no column 'klass', only age, colour, label; .*--label"):
        load_dataset(path, label="klass")
    with pytest.raises(InputError, match="drop: there is no column 'x'"):
        load_dataset(path, drop=["x"])


# --- kinds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "-2.5", "1e3", "NA", "", "3"], "number"),
        (["007", "010", "100"], "category"),
        (["0", "10", "100"], "number"),
        (["0.5", "00.5", "1"], "number"),
        (["1_000", "2_000", "3_000"], "text"),
        (["2024-01-31", "2024-02-01 12:30", "2024-02-01T12:30:00Z"], "date"),
        (["31.01.2024", "01.02.2024"], "date"),
        (["31/01/2024", "01/02/2024"], "date"),
        (["a.png", "b.JPG", "NA", "c.jpeg"], "image"),
        (["x/a.wav", "b.mp3", "c.ogg"], "audio"),
        (["a.mp4", "b.webm", "c.mov"], "video"),
        (["red", "green"] * 5, "category"),
        (["True", "False"] * 5, "category"),
        (["see it in a.png or elsewhere", "nothing", "other words"], "text"),
        (["1", "a", "2", "b"] * 5, "category"),
        ([1, "a", 2, "b"] * 5, "category"),
        ([True, False], "category"),
        ([1, 2.5, 10**400, float("inf")], "number"),
        (["1,5", "2,25"], "number"),
    ],
)
def test_kinds_are_inferred_from_cells(cells, kind):
    assert infer(Table("t", {"x": cells}, Path()), "x").kind == kind


def test_kinds_are_inferred_from_names_where_cells_leave_a_doubt():
    cells = ["red", "green"] * 5
    assert infer(Table("t", {"caption": cells}, Path()), "caption").kind == "text"
    assert infer(Table("t", {"colour": cells}, Path()), "colour").kind == "category"


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["01/02/2024", "03/04/2024"], "can mean day/month or month/day"),
        (["1,000", "2,500"], r"'1,000' in row 0 can mean thousands or decimals"),
        (["NA", "none", None], "has no value but words for nothing"),
    ],
)
def test_columns_that_can_be_read_in_two_ways_are_refused(cells, message):
    with pytest.raises(InputError, match=f"column 'x'.*{message}"):
        infer(Table("t", {"x": cells}, Path()), "x")


def test_declarations_overrule_what_is_inferred(write):
    path = write(code=["1", "2", "3", "4"] * 10, pulse=[str(k) for k in range(N)])
    dataset = load_dataset(path, modalities={"vitals": "table:pulse,age", "colour": "text"}, categorical=["code"])
    assert dataset.names == ("vitals", "colour", "table")
    assert kinds(dataset) == {"age": "number", "colour": "text", "code": "category", "pulse": "number"}
    assert [m.values.shape[1:] for m in dataset.modalities] == [(2,), (), (4,)]
    modalities, categorical = declared_by(dataset.schema)
    assert (modalities, categorical) == (["vitals=table:age,pulse", "colour=text", "table=table:code"], ["code"])
    again = load_dataset(path, modalities=modalities, categorical=categorical)
    assert again.fingerprint == dataset.fingerprint
    assert json.loads(json.dumps(again.schema)) == dataset.schema


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modalities": ["x"]}, "modality must be NAME=KIND"),
        ({"modalities": ["x=sound"]}, "KIND one of image, audio, video, frames, array, text, table"),
        ({"modalities": ["x=text"]}, "there is no column 'x' of data, only age, colour"),
        ({"modalities": ["x=text:label"]}, "there is no column 'label' of data"),
        ({"modalities": ["x=text:age,colour"]}, "must name one column"),
        ({"modalities": ["x=table:age,age"]}, "must name distinct columns"),
        ({"modalities": ["x=text:age", "y=table:age"]}, "got 'age' in x and y"),
        ({"modalities": ["x=text:age", "x=text:colour"]}, "names must be distinct"),
        ({"modalities": ["table=text:colour"]}, "there are two of the name 'table'"),
        ({"modalities": ["a+b=text:age"]}, "modality name"),
        ({"modalities": ["colour=text"], "categorical": ["colour"]}, "declared to be of kind text"),
        ({"categorical": ["x"]}, "categorical: there is no column 'x'"),
    ],
)
def test_declarations_that_do_not_fit_are_refused(write, arguments, message):
    with pytest.raises(InputError, match=message):
        load_dataset(write(), **arguments)


@given(st.text(min_size=1), st.lists(st.text(min_size=1), min_size=1, unique=True))
def test_declarations_are_read_as_they_are_written(name, listed):
    name = "".join(letter for letter in name if letter.isprintable() and letter not in "+=").strip() or "m"
    listed = sorted({column.strip() for column in listed if column.strip() and column.isprintable()}) or ["c"]
    declared = Declared(name, "table", tuple(listed))
    assert read_declaration(write_declaration(declared)) == declared


def test_what_is_for_tables_is_refused_elsewhere(tmp_path):
    np.savez(tmp_path / "a.npz", klass=np.arange(N) % 2, x=np.ones((N, 2)), y=np.ones((N, 3)))
    assert load_dataset(tmp_path / "a.npz", label="klass", drop=["y"]).names == ("x",)
    with pytest.raises(InputError, match="modality is for tables"):
        load_dataset(tmp_path / "a.npz", label="klass", modalities={"x": "text"})
    with pytest.raises(InputError, match="data-root is for tables, and mfeat-small is bundled"):
        load_dataset("mfeat-small", data_root=tmp_path)
    assert load_dataset("mfeat-small", drop=["fourier"]).names == ("karhunen_loeve", "morphological", "zernike")


def test_arrays_make_a_data_set_and_texts_among_them():
    arrays = {"label": ["a", "b"] * 20, "x": np.ones((N, 2)), "note": ["", *map(str, range(N - 1))]}
    dataset = load_dataset(arrays)
    assert [(m.name, m.kind, int(m.present.sum())) for m in dataset.modalities] == [
        ("x", "vector", N),
        ("note", "text", 39),
    ]
    with pytest.raises(InputError, match="label: this key is required"):
        load_dataset({"x": np.ones((N, 2))})


# --- cells -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1", "2", "x"] + ["4"] * 37, r"column 'age': .*got 'x' in row 2 \(line 4\); .*--categorical age"),
        (["1", "inf", "-inf"] + ["4"] * 37, r"must be finite numbers.*got 'inf' in row 1 \(line 3\) and 1 more"),
        (["1" + "0" * 400] + ["4"] * 39, "must be finite numbers"),
        (["2024-01-31", "2024-13-01"] + ["2024-01-01"] * 38, r"must be dates like 2024-01-31.*'2024-13-01' in row 1"),
    ],
)
def test_few_cells_that_do_not_fit_are_faults(write, cells, message):
    with pytest.raises(InputError, match=message):
        load_dataset(write(age=cells))


def test_words_for_nothing_are_missing_in_numbers_and_kept_in_texts(write):
    words = ["NA", "nan", "None", "null", "N/A", ""]
    numbers = [*words, *map(str, range(N - 6))]
    texts = [*words, *(f"some more words {k}" for k in range(N - 6))]
    dataset = load_dataset(write(age=numbers, text=texts))
    report = {column["column"]: column["missing"] for column in dataset.schema["columns"]}
    assert report == {"age": 6, "colour": 0, "text": 1}
    (note,) = dataset.notes
    assert note.startswith("column 'text': 5 cells such as 'NA' in row 0 (line 2) are kept as they are; only an empty")
    assert dataset.modalities[1].values[:6].tolist() == ["NA", "nan", "None", "null", "N/A", ""]


def test_a_frame_s_own_missing_values_are_missing_everywhere():
    frame = pd.DataFrame(columns(text=[None, float("nan"), pd.NA, pd.NaT, ""] + ["some words here"] * 35))
    assert load_dataset(frame).modalities[1].present.sum() == 35


@pytest.mark.parametrize("cells", [["", " "], [None, None]])
def test_columns_without_any_value_are_refused(cells):
    with pytest.raises(InputError, match=r"column 'empty' has no value: all 40 cells are empty; .*--drop empty"):
        load_dataset(pd.DataFrame(columns(empty=cells * (N // 2))))


def test_statistics_are_those_of_the_training_rows_alone():
    split = np.repeat(["train", "val", "test"], [20, 10, 10])
    age = np.where(split == "train", np.arange(N), 1000.0 + np.arange(N))
    frame = pd.DataFrame(
        {"age": age, "colour": ["a", "b"] * 10 + ["new"] * 20, "split": split, "label": np.arange(N) % 2}
    )
    dataset = load_dataset(frame)
    values = dataset.modalities[0].values
    np.testing.assert_allclose(values[:20, 0], (np.arange(20) - 9.5) / np.arange(20).std(), rtol=1e-6)
    assert values[20:, 0].min() > 100
    assert values[:2, 1:].tolist() == [[1, 0], [0, 1]]
    assert not values[20:, 1:].any()  # a category that training has not seen


def test_missing_cells_become_the_mean_and_an_indicator_where_training_lacks_some():
    split = np.repeat(["train", "val", "test"], [20, 10, 10])
    frame = pd.DataFrame(
        {"x": np.arange(N) * 1.0, "y": np.arange(N) * 1.0, "z": "z", "split": split, "label": np.arange(N) % 2}
    )
    frame.loc[[3, 25], "x"] = None
    frame.loc[25, "y"] = None
    values = load_dataset(frame).modalities[0].values
    assert values.shape == (N, 4)  # x, whether x is missing, y, z
    assert values[3].tolist()[:2] == [0, 1]
    assert values[25].tolist() == [0, 1, 0, 1]
    assert not values[np.setdiff1d(np.arange(N), [3, 25]), 1].any()


def test_a_row_lacks_the_table_if_all_its_cells_are_missing_and_is_left_out_without_anything(capsys):
    frame = pd.DataFrame(columns(text=["a few words here"] * N)).astype(object)
    frame.loc[4, ["age", "colour"]] = None
    frame.loc[[7, 9], ["age", "colour", "text"]] = None
    dataset = load_dataset(frame)
    assert np.flatnonzero(~dataset.modalities[0].present).tolist() == [4, 7, 9]
    assert "2 of 40 rows have no modality at all and are left out, the first is row 7" in capsys.readouterr().err
    used = np.concatenate(list(dataset.splits.values()))
    assert np.setdiff1d(np.arange(N), used).tolist() == [7, 9]
    assert dataset.labels.size == N


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_numbers_of_any_size_are_standardised(scale):
    frame = pd.DataFrame({"x": scale * np.linspace(0, 1, N), "constant": scale, "label": np.arange(N) % 2})
    values = load_dataset(frame).modalities[0].values
    assert np.isfinite(values).all()
    assert 1 < np.ptp(values[:, 0]) < 5
    assert not values[:, 1].any()


def test_too_many_categories_are_refused():
    frame = pd.DataFrame({"x": [f"{k:05d}" for k in range(3000)], "label": np.arange(3000) % 2})
    with pytest.raises(InputError, match="column 'x': categories must be 1,000 at most, got 2,040"):
        load_dataset(frame)


@given(st.lists(st.none() | st.floats(allow_infinity=False) | st.integers() | st.booleans() | st.text(max_size=4)))
def test_numbers_are_read_alike_at_once_and_one_by_one(cells):
    parsed = parse_numbers(cells)
    for row, cell in enumerate(cells):
        one = parse_numbers([cell, "x"])  # x keeps it from being read at once
        np.testing.assert_equal(parsed.values[row], one.values[0])
        assert (row in parsed.wrong) == (0 in one.wrong)
        assert number("x") is None


def test_decimal_commas_are_numbers_and_said(write):
    path = write(";", age=[f"{k},{k % 10}5" for k in range(N)])
    dataset = load_dataset(path)
    assert dataset.schema["columns"][0]["values"] == "0.05 to 39.95"
    assert "column 'age': decimal commas" in dataset.notes


def test_identifiers_are_pointed_out(write):
    dataset = load_dataset(write(id=[str(k) for k in range(N)]))
    assert dataset.notes == ("column 'id': no two rows are alike, as in an identifier; leave it out by --drop id",)


def test_the_report_has_a_line_for_each_column(write):
    dataset = load_dataset(write(code=["007", "010"] * 20, when=["2024-01-31", ""] * 20))
    assert describe(dataset.schema).splitlines() == [
        "column  kind      modality  missing  values",
        f"age     number    table           0  {dataset.schema['columns'][0]['values']}",
        "colour  category  table           0  3 levels: blue, green, red",
        "code    category  table           0  2 levels: 007, 010",
        "when    date      table          20  2024-01-31 to 2024-01-31",
    ]


# --- new rows --------------------------------------------------------------------------------------------------------


def test_new_rows_are_read_as_training_read_them():
    frame = pd.DataFrame(
        columns(
            when=[str(datetime.date(2024, 1, 1) + datetime.timedelta(k)) for k in range(N)],
            note=["", *(f"some longer words {k}" for k in range(N - 1))],
        )
    ).astype(object)
    frame.loc[2, "age"] = None
    dataset = load_dataset(frame)
    schema = json.loads(json.dumps(dataset.schema))
    rows = [5, 2, 0]
    new = Table("new", {name: [frame[name][row] for row in rows] for name in frame if name != "label"}, Path())
    for modality in read_new_rows(schema, new, data_root=None, cache=None):
        trained = dataset.modalities[dataset.names.index(modality.name)]
        assert modality.values.tolist() == trained.values[rows].tolist()
        assert modality.present.tolist() == trained.present[rows].tolist()
    some = Table("new", {"colour": ["unknown", "red"], "else": [[1], [2]]}, Path())
    (table,) = read_new_rows(schema, some, data_root=None, cache=None)
    assert table.values[0].tolist() == [0, 1, 0, 0, 0, 0]  # age, whether it is missing, no colour, date
    with pytest.raises(InputError, match="columns: must be some of age, colour, when, note"):
        read_new_rows(schema, Table("new", {"x": ["1"]}, Path()), data_root=None, cache=None)


# --- splits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_groups", [5, 30, 600])
@pytest.mark.parametrize("split", [None, "train-test"])
def test_groups_are_in_one_part_only(n_groups, split):
    rng = np.random.default_rng(n_groups)
    n = 4 * n_groups
    labels, groups = rng.integers(3, size=n), np.arange(n) % n_groups
    parts = None if split is None else np.where(groups < max(1, n_groups // 5), "test", "train")
    splits = make_splits(labels, parts, 0, groups=groups)
    members = [set(groups[rows].tolist()) for rows in splits.values()]
    assert all(members)
    assert sum(map(len, members)) == n_groups
    assert np.unique(labels[splits["train"]]).size == 3
    again = make_splits(labels, parts, 0, groups=groups)
    assert all(np.array_equal(splits[part], again[part]) for part in splits)
    if n_groups == 600:
        assert abs(len(splits["test"]) / n - 0.2) < 0.02


def test_the_data_set_knows_its_groups(write):
    groups = [f"g{k % 8}" for k in range(N)]
    assert load_dataset(write(group=groups)).groups.tolist() == groups
    assert load_dataset(write(group=groups), drop=["group"]).groups is None
    arrays = {"label": np.arange(N) % 2, "x": np.ones((N, 2)), "group": np.arange(N) // 4}
    assert load_dataset(arrays).groups.tolist() == arrays["group"].tolist()
    with pytest.raises(InputError, match=r"^group: needs one per label, 40, got shape \(3,\)"):
        replace(load_dataset(arrays), groups=[1, 2, 3])


def test_groups_that_leave_nothing_to_hold_out_are_refused(write):
    with pytest.raises(InputError, match="group: nothing to hold out of 1 groups"):
        load_dataset(write(group=["a"] * N))
    with pytest.raises(InputError, match="got 'a' in train and test"):
        load_dataset(write(group=["a", "b"] * 20, split=["train"] * 30 + ["test"] * 10))
    with pytest.raises(InputError, match=r"column 'group': every row needs a value, row 1 \(line 3\)"):
        load_dataset(write(group=["a", ""] * 20))
    assert load_dataset(write(group=["a"] * N), drop=["group"]).names == ("table",)


def test_a_split_column_is_kept(write):
    split = ["train", "val ", "test", "train"] * 10
    dataset = load_dataset(write(split=split))
    assert dataset.splits["val"].tolist() == list(range(1, N, 4))
    assert dataset.drawn == ()
    with pytest.raises(InputError, match="split: must be one of train, val, test, got 'dev'"):
        load_dataset(write(split=["train", "dev", "test", "train"] * 10))


def test_the_fingerprint_is_that_of_the_cells_and_not_of_the_seed(write):
    path = write()
    one, other = load_dataset(path, seed=1), load_dataset(path, seed=2)
    assert not np.array_equal(one.modalities[0].values, other.modalities[0].values)
    assert one.fingerprint == other.fingerprint
    changed = load_dataset(write(colour=["red", "green", "blue", "red"] * 10), seed=1)
    assert changed.fingerprint != one.fingerprint


# --- folders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path):
    """Make a folder of pictures, one colour per class, and give its path."""
    from PIL import Image

    def to(*paths):
        for k, path in enumerate(paths):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (k % 256, 0, 0)).save(tmp_path / path)
        return tmp_path

    return to


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUILIB_CACHE", str(tmp_path / ".cache"))


def test_a_folder_of_folders_is_read_class_by_class(tree):
    root = tree(*(f"{label}/{k}.png" for label in ("cat", "dog") for k in range(6)), "cat/deep/0.png")
    (root / "cat" / "readme.txt").write_text("no picture")
    (root / "cat" / ".hidden.png").write_text("no picture")
    dataset = load_dataset(root)
    assert (dataset.classes, dataset.names) == (("cat", "dog"), ("image",))
    assert dataset.modalities[0].values.shape == (13, 224, 224, 3)
    assert dataset.notes == ("1 files are no pictures, sounds or films and left out, such as 'cat/readme.txt'",)


def test_a_folder_of_parts_brings_its_splits(tree):
    root = tree(*(f"{part}/{label}/{k}.png" for part in ("train", "test") for label in "ab" for k in range(5)))
    dataset = load_dataset(root)
    assert dataset.classes == ("a", "b")
    assert dataset.drawn == ("train", "val")
    assert len(dataset.splits["test"]) == 10


def test_a_folder_without_classes_is_refused(tree):
    with pytest.raises(InputError, match="two or more classes, got 'cat'"):
        load_dataset(tree("cat/0.png"))
    with pytest.raises(InputError, match="data-root must be a folder"):
        load_dataset(tree("dog/0.png"), data_root="no/such")
