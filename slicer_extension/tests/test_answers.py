"""An answer is what it says only if its type and shape are; whatever else came is one sentence."""

import hashlib
import json

import pytest

from FirstPickLib.answers import fileMisfit, pointsElsewhere, readAnswer, redirected
from FirstPickLib.client import Client, fullAddress
from FirstPickLib.shapes import File, Maybe, OrEmpty, Picture, fits, isOf

SERVER = "http://host:8000"
PNG = b"\x89PNG\r\n\x1a\n...IEND\xaeB`\x82"
NIFTI = b"\0" * 344 + b"n+1\0" + b"\0" * 4


@pytest.mark.parametrize(
    ("value", "shape", "isGood"),
    [
        ({"a": 1, "newer": []}, {"a": int}, True),
        ({"a": True}, {"a": int}, False),
        ({"a": 1.5}, {"a": float}, True),
        ({"a": 2}, {"a": float}, True),
        ({"a": float("nan")}, {"a": float}, False),
        ({"a": 10**400}, {"a": float}, False),
        ({"a": 10**400}, {"a": int}, False),
        ({"a": None}, {"a": Maybe(int)}, True),
        ({}, {"a": Maybe(int)}, True),
        ({}, {"a": int}, False),
        ([], {"a": int}, False),
        ([{"a": 1}, {"b": 1}], [{"a": int}], False),
        ([], [{"a": int}], True),
        ({}, OrEmpty({"a": int}), True),
        ({"b": 1}, OrEmpty({"a": int}), False),
        (None, OrEmpty({"a": int}), False),
        ({"image": "x", "label": "x"}, {"image": "x", "label": str}, True),
        ({"image": "y", "label": "x"}, {"image": "x", "label": str}, False),
    ],
)
def test_the_shape_of_json(value, shape, isGood):
    assert isOf(value, shape) is isGood


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("a.nii.gz", b"\x1f\x8b\x08\0"),
        ("a.NII", NIFTI),
        ("a.nrrd", b"NRRD0004\n"),
        ("a.mha", b"ObjectType = Image\nNDims = 3\n"),
        ("a.mha", b"NDims = 3\nDimSize = 1 2 3\n"),
        ("a.png", PNG),
        ("a.jpg", b"\xff\xd8\xff\xe0"),
        ("a.tiff", b"II*\0"),
        ("a.dcm", b"\0" * 128 + b"DICM"),
        ("scan", b"\x08\0\x05\0"),
    ],
)
def test_the_first_bytes_of_a_file(name, good):
    assert fits(good, name)
    for bad in (b"", b"<html><body>", b"\n<!DOCTYPE html>", b'{"detail": "x"}', b"{}"):
        assert not fits(bad, name)


def test_a_file_is_the_one_that_was_asked_for():
    head, whole = b"\x1f\x8b\x08\0", hashlib.sha256(b"whole").hexdigest()
    assert fileMisfit(File(), "a.nii.gz", head, 7, "") == ""
    assert fileMisfit(File(7), "a.nii.gz", head, 7, "") == ""
    assert fileMisfit(File(9), "a.nii.gz", head, 7, "") == "7 of 9 bytes"
    assert fileMisfit(File(), "a.nii.gz", b"<html>", 7, "") == "a web page"
    assert fileMisfit(File(checksum=f"SHA256:{whole}"), "a.nii.gz", head, 7, whole) == ""
    assert fileMisfit(File(checksum=f"SHA256:{whole}"), "a.nii.gz", head, 7, "0") == "another file"


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (200, b"<html>Sign in</html>", "text/html", "with a web page in place of what was asked for"),
        (200, b"<!doctype html>", "application/json", "with a web page"),
        (200, b"", "application/json", "with nothing"),
        (204, b"", "", "with nothing"),
        (200, b'{"image": "x", "la', "application/json", "broke off (not JSON)"),
        (200, b"[" * 100_000, "application/json", "broke off (not JSON)"),
        (200, b"{}", "application/json", "with something else"),
        (200, b"null", "application/json", "with something else"),
        (200, b'{"image": "y", "label": "y"}', "application/json", "with something else"),
        (200, b'{"image": "x", "label": 1}', "application/json", "with something else"),
        (413, b"<html>", "text/html", "does not take as much as was sent"),
        (403, b'{"detail": "Forbidden"}', "application/json", "wants a login"),
        (404, b'{"detail": "Not Found"}', "application/json", "Is it a FirstPick server?"),
    ],
)
def test_only_an_acknowledgement_of_this_label_says_that_it_is_saved(status, body, kind, text):
    shape = Client(SERVER, "alice").saveLabel("x", "final", [], 1).shape
    answer = readAnswer(status, body, kind, "", SERVER, shape=shape)
    assert not answer.isGood
    assert not answer.isTold
    assert text in answer.error
    good = readAnswer(200, b'{"image": "x", "label": "x", "newer": 1}', "application/json", "", SERVER, shape=shape)
    assert good.isGood


def test_what_the_server_itself_refuses_is_told_apart_from_what_a_proxy_does():
    told = readAnswer(409, json.dumps({"detail": "x" * 5000}).encode(), "application/json", "", SERVER)
    assert told.isTold
    assert len(told.error) == 600
    assert not readAnswer(409, b"<html>", "text/html", "", SERVER).isTold


def test_half_a_picture_is_none():
    assert readAnswer(200, PNG, "image/png", "", SERVER, shape=Picture()).data == PNG
    assert not readAnswer(200, PNG[:-4], "image/png", "", SERVER, shape=Picture()).isGood


@pytest.mark.parametrize(
    ("address", "target", "goesTo"),
    [
        ("http://host:8000/a?b=c", "/d", "http://host:8000/d"),
        ("http://host/a", "https://host/a", "https://host/a"),
        ("http://host/a", "http://HOST:8000/a", "http://HOST:8000/a"),
        ("https://host/a", "http://host/a", ""),
        ("http://host/a", "http://hostile/a", ""),
        ("http://host/a", "//hostile/a", ""),
        ("http://host/a", "file:///etc/passwd", ""),
    ],
)
def test_a_request_goes_on_to_the_same_host_only(address, target, goesTo):
    assert redirected(address, target) == goesTo
    assert "sends FirstPick on to https://b.org, where" in pointsElsewhere(301, SERVER, "https://b.org/login?x").error


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("localhost:99999", "a number from 1 to 65535"),
        ("localhost:0", "a number from 1 to 65535"),
        ("localhost:port", "a number from 1 to 65535"),
        ("http://[::1", "a bracket too many or too few"),
        ("my server:8000", "a space in it"),
        ("alice:secret@host", "a name or a password in it"),
        ("http:///path", "is not the address of a server."),
    ],
)
def test_an_odd_address_is_a_plain_sentence(text, why):
    with pytest.raises(ValueError, match="is not the address of a server") as caught:
        fullAddress(text)
    assert why in str(caught.value)
    assert "Type one such as" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("[::1]:8000", "http://[::1]:8000"),
        ("https://host/firstpick/", "https://host"),
        ("http://host:8000/proxy/firstpick#map", "http://host:8000/proxy"),
        ("http://host:8000/my_firstpick/?a", "http://host:8000/my_firstpick"),
    ],
)
def test_a_page_of_the_server_leads_to_the_server(text, address):
    assert fullAddress(text) == address
