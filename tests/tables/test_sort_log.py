"""The log of a sorted heap: lines that a killed process or a full device leaves whole."""

import errno
import io
import os
from dataclasses import replace

import pytest

from transferkit.errors import OutputError
from transferkit.tables.sort_log import (
    NAME,
    STAYS,
    UNREADABLE,
    UNSURE,
    By,
    SortedCounts,
    SortedImage,
    SortLog,
    opened_log,
    read_counts,
)

CAT = SortedImage("/heap/a.jpg", "cat", "a.jpg", 0.75, By.LINK, "")
ODD = SortedImage(
    '/heap/li\nne", "é\udcff\r.jpg', UNSURE, 'li\nne", "é\udcff\r.jpg', 0.25, By.COPY, ""
)
LOST = SortedImage("/heap/no.jpg", UNREADABLE, "", None, STAYS, "no such file or directory")
HEADER = "path,folder,file,confidence,action,reason\n"


def read(folder):
    with opened_log(folder) as log:
        return dict(log.images), log.begun


def write(folder, *images):
    with opened_log(folder) as log:
        for image in images:
            log.begin(image)
            log.end()
    return (folder / NAME).read_bytes()


def test_log__is_csv_that_reads_back_the_same_names(tmp_path):
    content = write(tmp_path, CAT, ODD, LOST)

    assert content.decode("utf-8", "surrogateescape").startswith(
        f"{HEADER}/heap/a.jpg,cat,a.jpg,0.750000,link,\n"
    )
    assert read(tmp_path) == ({image.path: image for image in (CAT, ODD, LOST)}, None)
    assert (tmp_path / NAME).read_bytes() == content


def test_log__that_was_cut_off_anywhere_loses_the_last_line_only(tmp_path):
    whole = write(tmp_path, CAT)
    longer = write(tmp_path, ODD)

    for length in range(len(longer) - 1):
        (tmp_path / NAME).write_bytes(longer[:length])
        images, begun = read(tmp_path)
        kept = (CAT,) if length >= len(whole) else ()
        assert images == {image.path: image for image in kept}
        if begun is None:
            assert (tmp_path / NAME).read_bytes() == (whole if kept else HEADER.encode())
        else:
            # Of the line that was begun, only the reason may be shorter.
            shown = CAT if length < len(whole) else ODD
            assert replace(begun, confidence=0, reason="") == replace(
                shown, confidence=0, reason=""
            )
    assert length > len(whole) > len(HEADER)


def test_log__tells_which_line_was_begun(tmp_path):
    before = write(tmp_path, CAT)
    with opened_log(tmp_path) as log:
        log.begin(ODD)
    with opened_log(tmp_path) as log:
        assert (list(log.images), log.begun) == ([CAT.path], ODD)
        log.abandon()
    assert (tmp_path / NAME).read_bytes() == before

    with opened_log(tmp_path) as log:
        log.begin(ODD)
    with opened_log(tmp_path) as log:
        log.end()
    assert read(tmp_path) == ({image.path: image for image in (CAT, ODD)}, None)


def test_log__on_a_full_device_holds_no_part_of_a_line(tmp_path):
    class Full(io.FileIO):
        def write(self, content):
            return super().write(content[:10])

    before = write(tmp_path, CAT)
    with Full(tmp_path / NAME, "a+") as file:
        log = SortLog(file, before.decode())
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            log.begin(ODD)
    assert (tmp_path / NAME).read_bytes() == before
    assert list(log.images) == [CAT.path]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1,2\n", "begins with a,b, expected path,"),
        (f"{HEADER}a,b\n", "not enough values"),
        (f'{HEADER}"a"b,c\nd\n', "',' expected after"),
        (f"{HEADER}a,b,c,,rename,\n", "'rename' is not a valid By"),
    ],
)
def test_log__that_is_something_else_is_refused_and_left_alone(tmp_path, text, reason):
    (tmp_path / NAME).write_text(text)

    with pytest.raises(OutputError, match=rf"{NAME}: is no log of sorted images \(.*{reason}"):
        read(tmp_path)
    assert (tmp_path / NAME).read_text() == text


def test_log__that_cannot_be_opened_is_an_error(tmp_path):
    (tmp_path / NAME).mkdir()

    with pytest.raises(OutputError, match=f"cannot write {tmp_path / NAME}: Is a directory"):
        read(tmp_path)


def test_read_counts__counts_the_latest_line_of_each_image(tmp_path):
    found = SortedImage(LOST.path, "dog", "no.jpg", 0.5, By.LINK, "")
    write(tmp_path, CAT, ODD, LOST, found)

    assert read_counts(tmp_path) == SortedCounts(2, 2, 1, 0)
