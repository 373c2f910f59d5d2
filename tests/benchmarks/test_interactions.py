from __future__ import annotations

import csv
import hashlib
import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocketrec.benchmarks.interactions import Interactions, map_items, read_interactions
from pocketrec.runtime.errors import InputError, MissingExtraError
from pocketrec.runtime.item_ids import ItemIds

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(content: str | bytes, name: str = "log.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return _write


def by_user(interactions: Interactions) -> dict[int | str, list[int | str]]:
    ids = interactions.item_ids
    return {user: [ids[i] for i in interactions.history(u)] for u, user in enumerate(interactions.user_ids)}


TWO_USERS = {1: [10, 20, 30], 2: [20, 40]}


@pytest.mark.parametrize(
    ("content", "format"),
    [
        ("1 10 20 30\n2 20 40\n", "sequence"),
        ("1\t10\t20 30\n\n  2  20 40  \n", "sequence"),
        ("1 10\n1 20\n2 20\n1 30\n2 40\n", "pairs"),
        ("user\titem\ttime\n1\t10\t5\n2\t40\t8\n1\t20\t6\n2\t20\t1\n1\t30\t7\n", "delimited"),
        ("userId,movieId,rating,timestamp\n1,10,4.5,5\n1,20,1,6\n1,30,2,7\n2,20,3,1\n2,40,5,2\n", "delimited"),
        ("reviewerID;asin\n1;10\n1;20\n2;20\n1;30\n2;40\n", "delimited"),
        ("visitorid|itemid|event\n1|10|view\n1|20|view\n2|20|buy\n1|30|view\n2|40|buy", "delimited"),
        ("user  item\n1 10\n1 20\n2   20\n1 30\n2 40\n", "delimited"),
        ('"user","title, long","item"\n"1","a, b",10\n1,"say ""x""",20\n2,,20\n1,"\n",30\n2,c,"40"\n', "delimited"),
        (
            "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
            "1\t20\t3\t6\n1\t10\t3\t5\n1\t30\t1\t7\n2\t20\t3\t1\n2\t40\t3\t2\n",
            "recbole",
        ),
        ("user_id:token\titem_id_list:token_seq\titem_id:token\n1\t10 20\t30\n2\t20\t40\n", "recbole"),
        ("1\t20\t3\t881250949\n1\t10\t3\t881250948\n1\t30\t1\t881250950\n2\t20\t3\t881250949\n2\t40\t5\t881250950\n", "movielens"),
        ("1::10::3::978300760\n1::20::3::978300761\n1::30::1::978300762\n2::20::3::978300760\n2::40::5::978300769\n", "movielens"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("disguise", ["", "crlf", "bom", "no newline at the end", "blank lines"])
def test_each_format_gives_the_same_sequences(write: Write, content: str, format: str, disguise: str) -> None:
    match disguise:
        case "crlf":
            content = content.replace("\n", "\r\n")
        case "bom":
            content = "\ufeff" + content
        case "no newline at the end":
            content = content.rstrip("\n")
        case "blank lines":
            content = "\n  \n" + content + "\n\n"
    path = write(content)
    detected = read_interactions(path)
    told = read_interactions(path, format=format)
    assert detected.format == format
    for read in (detected, told):
        assert by_user(read) == TWO_USERS
        assert (read.n_users, read.n_items, read.n_interactions) == (2, 4, 5)
        assert read.indptr.dtype == read.items.dtype == np.int64
    assert detected.source == "log.txt"
    assert detected.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("ids", ["int", "str", "float with a gap", "categorical"])
def test_parquet(tmp_path: Path, ids: str) -> None:
    frame = pl.DataFrame(
        {
            "rating": [1.0, 2, 3, 4, 5],
            "itemId": [10, 20, 30, 20, 40],
            "uid": [1, 1, 1, 2, 2],
            "ts": [5, 6, 7, 1, 2],
        }
    )
    match ids:
        case "str":
            frame = frame.with_columns(pl.col("uid", "itemId").cast(pl.String))
        case "float with a gap":
            gap = pl.DataFrame(
                {"rating": [1.0], "itemId": [None], "uid": [1], "ts": [9]},
                schema_overrides={"itemId": pl.Int64},
            )
            frame = pl.concat([frame, gap]).with_columns(pl.col("itemId").cast(pl.Float64))
        case "categorical":
            frame = frame.with_columns(pl.col("uid", "itemId").cast(pl.String).cast(pl.Categorical))
    path = tmp_path / "log.parquet"
    frame.write_parquet(path)
    read = read_interactions(path)
    assert by_user(read) == TWO_USERS
    assert read.format == "parquet"
    assert read.times is not None
    assert read.times.tolist() == [5, 6, 7, 1, 2]
    assert read.counts["missing_dropped"] == (ids == "float with a gap")


def test_columns_given_by_name(write: Write) -> None:
    path = write("who,what,when,user,item,time\n1,10,2,x,x,x\n1,20,1,x,x,x\n")
    read = read_interactions(path, user="who", item="what", time="when")
    assert by_user(read) == {1: [20, 10]}


def test_times_and_ratings_follow_the_order(write: Write) -> None:
    read = read_interactions(write("user,item,rating,ts\na,x,1,30\nb,x,2,5\na,y,,20\na,z,4,20\n"))
    assert by_user(read) == {"a": ["y", "z", "x"], "b": ["x"]}  # y before z: a tie, in file order
    assert read.times is not None
    assert read.ratings is not None
    assert read.times.tolist() == [20, 20, 30, 5]
    np.testing.assert_array_equal(read.ratings, np.array([np.nan, 4, 1, 2], np.float32))
    assert read.counts["unsorted_users"] == 1
    assert read.counts["missing_ratings"] == 1


def test_iso_times(write: Write) -> None:
    read = read_interactions(
        write(
            "user,item,date\n1,1,2024-01-31\n1,2,2024-01-31T00:00:01.5\n1,3,2024-01-31 00:00\n"
            "1,4,2024-01-31T02:00:02+02:00\n1,5,2024-01-31 00:00:03Z\n"
        )
    )
    assert read.times is not None
    assert (read.times - 1706659200).tolist() == [0, 0, 1.5, 2, 3]
    assert by_user(read) == {1: [1, 3, 2, 4, 5]}


def test_parquet_dates(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    texts = pl.Series(["2024-01-31", "1970-01-02"])
    pl.DataFrame({"user": [1, 1], "item": [1, 2], "time": texts.str.to_date()}).write_parquet(path)
    read = read_interactions(path)
    assert read.times is not None
    assert read.times.tolist() == [86400, 1706659200]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["1", "2"], [1, 2]),
        (["007", "8"], ["007", "8"]),
        (["1", "b"], ["1", "b"]),
        (["-5", "0"], [-5, 0]),
        (["+5", "1"], ["+5", "1"]),
        (["9223372036854775808", "1"], ["9223372036854775808", "1"]),
        (["1.0", "2"], ["1.0", "2"]),
        (["é", "日本"], ["é", "日本"]),
    ],
)
def test_ids_are_integers_only_where_nothing_is_lost(
    write: Write, ids: list[str], expected: list[object]
) -> None:
    path = write("".join(f"7 {i}\n" for i in ids))
    assert read_interactions(path).item_ids == expected
    assert read_interactions(path, item_ids_as="str").item_ids == ids
    assert read_interactions(path, item_ids_as="str").user_ids == [7]


def test_what_is_cleaned_is_counted(write: Write) -> None:
    timed = read_interactions(
        write("user,item,time\n1,10,5\n1,10,5\n1,10,6\n,10,5\n2,NULL,5\n2,10,\n2,20,9\n2,30,8\nnan,30,8\n")
    )
    assert by_user(timed) == {1: [10, 10], 2: [30, 20]}
    assert timed.counts == {
        "missing_dropped": 4, "duplicates_dropped": 1, "repeats": 1, "unsorted_users": 1, "empty_users": 0,
    }  # fmt: skip
    assert timed.describe() == (
        "log.txt: 2 users, 3 items, 4 interactions,"
        " 4 missing dropped, 1 duplicates dropped, 1 repeats, 1 unsorted users"
    )
    untimed = read_interactions(write("1 10 10 20 10\n2\n3 10\n4\n"))
    assert by_user(untimed) == {1: [10, 10, 20, 10], 3: [10]}
    assert (untimed.counts["repeats"], untimed.counts["empty_users"]) == (2, 2)


def test_quotes_in_tab_separated_files_are_letters(write: Write) -> None:
    read = read_interactions(
        write('user\ttitle\titem\n"1"\t5" screen\t"10"\n1\t"Great" (1998)\t20\n1\t7"\t30\n')
    )
    assert by_user(read) == {1: [10, 20, 30]}


def test_without_polars_the_extra_is_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    for module in ("interaction_columns", "interaction_formats"):
        monkeypatch.delitem(sys.modules, f"pocketrec.benchmarks.{module}", raising=False)
    with pytest.raises(MissingExtraError, match=r"reading interactions needs the extra `bench`"):
        read_interactions(write("1 2\n"))


def test_a_user_on_two_lines_goes_on(write: Write) -> None:
    assert by_user(read_interactions(write("1 10 20 30\n2 20\n1 40\n"))) == {1: [10, 20, 30, 40], 2: [20]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"log\.txt: the file is empty"),
        (" \n\n", r"log\.txt: the file is empty"),
        (b"\xef\xbb\xbf\n", r"log\.txt: only blank lines"),
        (b"1 2\n1 \xff\n", r"log\.txt:2: not UTF-8 text \(byte 0xff\)"),
        (b"1 2\n1 \x00\n", r"log\.txt:2: a zero byte; the file is binary"),
        (b"\x1f\x8b\x08", r"log\.txt: a compressed file; unpack it first"),
        (b"PAR1 and so on", r"log\.txt: not a whole Parquet file"),
        ('{"reviewerID": "A", "asin": "B"}\n', r"log\.txt: JSON; expected a table"),
        ("1\n2\n", r"log\.txt:1: one column; expected `user item`"),
        ("1 2\n" * 10 + "\n1 3 4\n1 5\n", r"log\.txt:12: 3 fields, expected 2"),
        ("1 2\n" * 10 + "1\n1 5\n", r"log\.txt:11: 1 fields, expected 2"),
        ("1 2 3\n1 3 4\n1 2 5\n", r"log\.txt:1: 3 columns and no header; add a first line"),
        ("foo bar\n1 2\n", r"no user column known among 'foo', 'bar'; name it with user=\.\.\. \(--user NAME\)"),
        ("foo,bar\na,b\n", r"no user column known among 'foo', 'bar'"),
        ("my user\tmy item\na\tb\n", r"no user column known among 'my user', 'my item'"),
        ("user,thing,time\na,b,1\n", r"no item column known among 'user', 'thing', 'time'; name it with item="),
        ("1,2,3\n1,3,4\n", r"log\.txt:1: no header line \(got '1,2,3'\); add one such as `user,item`"),
        ("user,item\n", r"log\.txt: a header and no rows"),
        ("user,item,time\n1,2,3\n1,2\n", r"log\.txt:3: 2 fields, expected 3 as in the header"),
        ("\nuser,item\n1,2\n\n1,2,3\n", r"log\.txt:5: 3 fields, expected 2 as in the header"),
        ('user,item,t\n1,"a\nb",3\n1,2\n', r"log\.txt:4: 2 fields, expected 3"),
        ('user,item\n1,"2\n1,3\n', r"log\.txt:2: a quote that is not closed"),
        ("user,item,time\n1,2,3\n1,3,noon\n", r"log\.txt:3: time: got 'noon', expected a number of seconds"),
        ("user,item,time\n1,2,noon\n", r"log\.txt:2: time: got 'noon', expected a number or an ISO date"),
        ("user,item,time\n1,2,2024-01-31\n1,3,4\n", r"log\.txt:3: time: got '4', expected a number or an ISO"),
        ("user,item,time\n1,2,3\n1,2,nan\n", r"log\.txt:3: time: got 'nan', expected a finite number"),
        ("user,item,time\n1,2,3\n1,2,-inf\n", r"log\.txt:3: time: got '-inf', expected a finite number"),
        ("user,item,time\n1,2,1e999\n", r"log\.txt:2: time: got '1e999', expected a finite number"),
        ("user,item,time\n1,2,\n2,3,\n", r"log\.txt: the time column is empty in all 2 rows"),
        ("user,item\n1,\n,2\n", r"log\.txt: no row is complete; each of the 2 lacks one of user, item"),
        ("user,item,rating\n1,2,good\n", r"log\.txt:2: rating: got 'good', expected a number"),
        (
            "user_id:token\titem_id_list:token_seq\titem_id:token\n1\t1\t2\n2\t1\t2\n1\t1 2\t3\n",
            r"log\.txt:2: user '1' has several rows of item_id_list:token_seq; expected one row a user",
        ),
    ],
)  # fmt: skip
def test_bad_content_is_one_clear_error(write: Write, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_interactions(write(content))
    assert "\n" not in str(caught.value)


def test_bad_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.txt: no such file"):
        read_interactions(tmp_path / "nowhere.txt")
    with pytest.raises(InputError, match="a directory; expected a file"):
        read_interactions(tmp_path)


def test_bad_arguments(write: Write) -> None:
    pairs, table = write("1 2\n", "pairs.txt"), write("user,item\n1,2\n", "table.csv")
    with pytest.raises(InputError, match="format 'json'; expected one of sequence, pairs"):
        read_interactions(pairs, format="json")
    with pytest.raises(InputError, match="item_ids_as='int'; expected 'auto' or 'str'"):
        read_interactions(pairs, item_ids_as="int")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="'pairs' has no header, so no column can be named"):
        read_interactions(pairs, format="pairs", user="a")
    with pytest.raises(InputError, match=r"no column 'when' \(time\); the columns are 'user', 'item'"):
        read_interactions(table, time="when")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": [1], "item": [[1, 2]]}, "column of items has type List"),
        ({"user": [1.5], "item": [1]}, "column of users holds fractions"),
        ({"user": [1, 1], "item": [1, 2], "time": [1.0, float("nan")]}, r"log\.parquet:2: time: got nan"),
        ({"user": [1], "item": [1], "time": [True]}, "times of type Boolean"),
        ({"a": [1], "b": [1]}, "no user column known among 'a', 'b'"),
    ],
)
def test_bad_parquet(tmp_path: Path, columns: dict[str, list[object]], message: str) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame(columns).write_parquet(path)
    with pytest.raises(InputError, match=message):
        read_interactions(path)


def test_truncated_parquet(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user": [1], "item": [1]}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(InputError, match="not a whole Parquet file"):
        read_interactions(path)


# Letters that text formats give a meaning to (quotes, separators, spaces) are for the formats that can quote them.
PLAIN_IDS = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.text("abc012éß日-._", min_size=1, max_size=6).map(lambda s: "x" + s),
)
WILD_TEXT = st.text("ab\"',;|\t\n é", min_size=1, max_size=6).filter(lambda s: s.count("\n") < 2)
WILD_IDS = st.one_of(PLAIN_IDS, WILD_TEXT.map(lambda s: f"x{s}x"))


def expected_sequences(log: list[tuple[str, str, int]], *, timed: bool) -> dict[str, list[str]]:
    events = sorted(dict.fromkeys(log), key=lambda event: event[2]) if timed else log
    users = dict.fromkeys(user for user, _, _ in log)
    return {user: [item for u, item, _ in events if u == user] for user in users}


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    log=st.lists(st.tuples(PLAIN_IDS, PLAIN_IDS, st.integers(0, 4)), min_size=1, max_size=30),
    format=st.sampled_from(["sequence", "pairs", "tab", "recbole", "recbole sequences", "parquet"]),
)
def test_what_was_written_is_read_back(tmp_path: Path, log: list[tuple[str, str, int]], format: str) -> None:
    path = tmp_path / "log"
    timed = format in ("tab", "recbole", "parquet")
    expected = expected_sequences(log, timed=timed)
    rows = "".join(f"{u}\t{i}\t{t}\n" for u, i, t in log)
    match format:
        case "sequence":
            path.write_text("".join(f"{u} {' '.join(items)}\n" for u, items in expected.items()))
        case "pairs":
            path.write_text("".join(f"{u} {i}\n" for u, i, _ in log))
        case "tab":
            path.write_text("user\titem\ttime\n" + rows)
        case "recbole":
            path.write_text("user_id:token\titem_id:token\ttimestamp:float\n" + rows)
        case "recbole sequences":
            lines = (f"{u}\t{' '.join(items[:-1])}\t{items[-1]}\n" for u, items in expected.items())
            path.write_text("user_id:token\titem_id_list:token_seq\titem_id:token\n" + "".join(lines))
        case _:
            pl.DataFrame(log, schema=["user", "item", "time"], orient="row").write_parquet(path)
    told = format if format in ("sequence", "pairs") else None  # a few short lines can be anything
    read = read_interactions(path, format=told)
    assert {str(u): [str(i) for i in items] for u, items in by_user(read).items()} == expected
    assert [str(u) for u in read.user_ids] == list(expected)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    log=st.lists(st.tuples(WILD_IDS, WILD_IDS, st.integers(0, 4)), min_size=1, max_size=20),
    separator=st.sampled_from(",;|"),
)
def test_quoted_fields_are_read_back(tmp_path: Path, log: list[tuple[str, str, int]], separator: str) -> None:
    path = tmp_path / "log.csv"
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows([("user", "item", "time"), *log])
    path.write_bytes(text.getvalue().encode())
    read = by_user(read_interactions(path))
    assert {str(u): [str(i) for i in items] for u, items in read.items()} == expected_sequences(
        log, timed=True
    )


def interactions_of(write: Write, items: str) -> Interactions:
    return read_interactions(write(items), format="sequence")


def test_map_items(write: Write) -> None:
    mapped = map_items(interactions_of(write, "1 10 20 30\n2 20 10\n"), ItemIds.from_sequence([30, 10, 20]))
    assert [s.tolist() for s in mapped.sequences] == [[1, 2, 0], [2, 1]]
    assert mapped.sequences[0].dtype == np.int64
    assert (mapped.unknown_items, mapped.unknown_interactions, mapped.coverage) == (0, 0, 1.0)
    assert mapped.times is None
    assert mapped.warning is None


@pytest.mark.parametrize("ids", [["30", "10", "20"], ["30", "10", "20", "a"]])
def test_map_items_meets_checkpoints_that_keep_ids_as_strings(write: Write, ids: list[str]) -> None:
    mapped = map_items(interactions_of(write, "1 10 20 30\n"), ItemIds.from_sequence(ids))
    assert [s.tolist() for s in mapped.sequences] == [[1, 2, 0]]


def test_map_items_reads_strings_as_the_integers_of_the_checkpoint(write: Write) -> None:
    data = interactions_of(write, "1 1 2 x 01\n")
    mapped = map_items(data, ItemIds.from_sequence([1, 2]), max_unknown=0.5)
    assert [s.tolist() for s in mapped.sequences] == [[0, 1]]
    assert mapped.unknown_items == 2


def test_unknown_items_are_refused_or_dropped(write: Write) -> None:
    data = read_interactions(write("user,item,time\n1,1,1\n1,2,2\n1,9,3\n2,8,4\n2,9,5\n3,2,6\n"))
    vocabulary = ItemIds.from_sequence(range(1, 4))
    message = (
        r"log\.txt: 2 of 4 item ids \(first: 9\) are not in the checkpoint's 3 items; is this the data set that the"
        r" checkpoint was trained on\? \(--allow-unknown-items drops them\)"
    )
    for too_small in (0.0, 0.49):
        with pytest.raises(InputError, match=message):
            map_items(data, vocabulary, max_unknown=too_small)
    mapped = map_items(data, vocabulary, max_unknown=0.5)
    assert [s.tolist() for s in mapped.sequences] == [[0, 1], [], [1]]
    assert mapped.times is not None
    assert [t.tolist() for t in mapped.times] == [[1, 2], [], [6]]
    assert (mapped.unknown_items, mapped.unknown_interactions) == (2, 3)


def test_another_data_set(write: Write) -> None:
    data = interactions_of(write, "1 10 20\n")
    with pytest.raises(InputError, match=r"2 of 2 item ids \(first: 10\).*trained on\?$"):
        map_items(data, ItemIds.from_sequence(["a", "b"]), max_unknown=1.0)
    mapped = map_items(data, ItemIds.from_sequence(range(100)))
    assert mapped.coverage == 0.02
    assert mapped.warning == (
        "log.txt: uses 2 of the checkpoint's 100 items (2%); is this the data set that the checkpoint was trained on?"
    )


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "format", "users", "items", "events"),
    [
        ("beauty/Beauty.txt", "sequence", 22_363, 12_101, 198_502),
        ("beauty/inter.tsv", "delimited", 22_363, 12_101, 198_502),
        ("beauty-large/beauty.txt", "pairs", 40_226, 54_542, 353_962),
        ("ml-1m/ml-1m.txt", "pairs", 6_040, 3_416, 999_611),
        ("ml-100k/ml-100k.inter", "recbole", 943, 1_682, 100_000),
        ("lastfm/LastFM.txt", "sequence", 1_090, 3_646, 52_551),
        ("games-text/Games-6k.test.inter", "recbole", 50_546, 16_859, 440_264),
    ],
)
def test_real_data(shared: Path, file: str, format: str, users: int, items: int, events: int) -> None:
    read = read_interactions(shared / "data" / file)
    assert (read.format, read.n_users, read.n_items, read.n_interactions) == (format, users, items, events)
    assert all(isinstance(i, int) for i in read.item_ids)


@pytest.mark.shared
def test_beauty_as_lines_and_as_a_table_is_the_same(shared: Path) -> None:
    lines = by_user(read_interactions(shared / "data/beauty/Beauty.txt"))
    table = by_user(read_interactions(shared / "data/beauty/inter.tsv"))
    differ = [user for user in lines if lines[user] != table[user]]
    assert len(differ) <= 5  # the table has five users whose rows are not in the order of their times
