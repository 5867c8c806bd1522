"""tus: bodies with a digest. Rules 41 to 46 of docs/tus.rst, by number."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from flask_chunked.protocol.tus import CHECKSUM_SIZES
from tests.apps import stored_files
from tests.dialects.tus import Tus, checksum


@pytest.mark.parametrize("algorithm", sorted(CHECKSUM_SIZES))
def test_rules_41_and_45_every_algorithm_distinguishes_right_from_wrong(
    tus: Tus, algorithm: str
) -> None:
    url = tus.create(6)
    wrong = checksum(algorithm, b"abd")
    response = tus.patch(url, 0, b"abc", Upload_Checksum=wrong)
    assert (response.status_code, tus.offset(url)) == (460, 0)
    assert response.status == "460 Checksum Mismatch"
    right = checksum(algorithm, b"abc")
    assert tus.patch(url, 0, b"abc", Upload_Checksum=right).status_code == 204
    assert tus.offset(url) == 3


def test_rule_45_crc32_is_four_bytes_most_significant_first(tus: Tus) -> None:
    value = "crc32 " + base64.b64encode(bytes.fromhex("352441c2")).decode()
    response = tus.patch(tus.create(3), 0, b"abc", Upload_Checksum=value)
    assert response.status_code == 204


@pytest.mark.parametrize(
    "value",
    [
        "",
        "sha1",
        "sha1 ",
        "SHA1 Zm9v",
        "sha1  Zm9v",
        "crc64 Zm9v",
        "sha1 Zm9v",
        "sha1 $",
    ],
)
def test_rule_42_a_bad_checksum_header_is_400_before_the_body(
    tus: Tus, value: str
) -> None:
    url = tus.create(3)
    assert tus.patch(url, 0, b"abc", Upload_Checksum=value).status_code == 400
    assert tus.offset(url) == 0


def test_rules_43_and_44_the_checksum_is_of_this_body_and_leaves_nothing(
    tus: Tus, tmp_path: Path
) -> None:
    url = tus.create(6)
    tus.patch(url, 0, b"abc")
    of_the_file = checksum("sha1", b"abcdef")
    assert tus.patch(url, 3, b"def", Upload_Checksum=of_the_file).status_code == 460
    sizes = [len(p.read_bytes()) for p in stored_files(tmp_path)]
    assert sizes == [3]
    of_the_body = checksum("sha1", b"def")
    assert tus.patch(url, 3, b"def", Upload_Checksum=of_the_body).status_code == 204
    assert tus.content(url) == b"abcdef"


def test_rule_46_a_trailer_that_cannot_arrive_is_refused(tus: Tus) -> None:
    url = tus.create(3)
    response = tus.patch(url, 0, b"abc", Trailer="Upload-Checksum")
    assert (response.status_code, tus.offset(url)) == (400, 0)
