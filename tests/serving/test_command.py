"""Flags and files that cannot work get one line and their exit code."""

import socket

import pytest

from tests.serving.saved import copy_version
from zoo.errors import RunError, UsageError
from zoo.serving import command
from zoo.serving.model_config import of_file, of_folders


def run(capsys, *arguments):
    code = command.main(["zoo-serve", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("zoo-serve: ")
    assert err.count("\n") == 1
    return code, err


def test_help_names_every_flag(capsys):
    assert command.main(["zoo-serve", "--help"]) == 0
    said = capsys.readouterr().out
    assert "zoo-serve saved_models/imdb-bilstm" in said
    for name in ("rest_port", "max_queued_rows", "drain_seconds", "allow_origin"):
        assert f"--{name}" in said or f"--[no]{name}" in said


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "give folders"),
        (("folder", "--model_config_file=x"), 2, "give folders"),
        (("nowhere",), 1, "is no folder"),
        (("--rest_port=70000", "x"), 2, "rest_port"),
        (("--max_batch_rows=0", "x"), 2, "max_batch_rows"),
        (("--batch_wait_ms=-1", "x"), 2, "batch_wait_ms"),
        (("--max_batch_row=8", "x"), 2, "max_batch_rows"),
        (("--drain_seconds=inf", "x"), 2, "drain_seconds"),
        (("--batch_wait_ms=nan", "x"), 2, "--batch_wait_ms=nan is no number"),
        (("--allow_origin=https://a.com/", "x"), 2, "is no origin such as https://example.com"),
        (("--allow_host=a.com:80", "x"), 2, "--allow_host=a.com:80 is no name such as example.com"),
        (("--allow_host=", "x"), 2, "--allow_host= is no name such as example.com"),
        (("--tls_key=x", "x"), 2, "go together"),
        (("--token_file=nowhere", "x"), 1, "No such file"),
        (("--model_config_file=nowhere",), 1, "cannot be read"),
        (("~no-such-user/x",), 2, "there is no home folder ~no-such-user"),
        (("--token_file=~no-such-user/x", "x"), 2, "there is no home folder ~no-such-user"),
        (("--model_config_file=~no-such-user/x",), 2, "there is no home folder ~no-such-user"),
    ],
    ids=range(18),
)
def test_what_cannot_work_is_one_line(capsys, arguments, code, words):
    got, said = run(capsys, *arguments)
    assert (got, words in said) == (code, True), said


@pytest.mark.parametrize("content", ["", " \n", "two words", "geheimnis\x00"])
def test_a_token_is_one_word(capsys, tmp_path, content):
    (tmp_path / "token").write_text(content)
    code, said = run(capsys, "x", f"--token_file={tmp_path / 'token'}")
    assert (code, "must hold one word" in said) == (2, True)


def test_a_certificate_that_is_none(capsys, echo, tmp_path):
    for name in ("certificate", "key"):
        (tmp_path / name).write_text("no PEM")
    files = (f"--tls_certificate={tmp_path / 'certificate'}", f"--tls_key={tmp_path / 'key'}")
    code, said = run(capsys, echo.parent, *files, "--rest_port=0", "--grpc_port=0")
    assert (code, "the certificate or its key cannot be used" in said) == (1, True), said


@pytest.mark.parametrize(
    ("host", "token", "tls", "lacking"),
    [
        ("0.0.0.0", False, False, "without token or TLS"),
        ("::", True, False, "without TLS"),
        ("example.com", False, True, "without a token"),
        ("0.0.0.0", True, True, None),
        ("127.0.0.1", False, False, None),
        ("::1", False, False, None),
        ("localhost", False, False, None),
    ],
)
def test_a_public_address_is_warned_of_without_a_token_or_tls(host, token, tls, lacking):
    warning = lacking and f"warning: anyone who reaches {host} may ask, {lacking}"
    assert command._warning(host, token, tls) == (warning or "")


def test_a_taken_port(capsys, echo):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for which, other in (("rest", "grpc"), ("grpc", "rest")):
            flags = (f"--{which}_port={port}", f"--{other}_port=0")
            code, said = run(capsys, echo.parent, *flags)
            assert (code, f"cannot listen on 127.0.0.1:{port}" in said) == (1, True)


def test_a_version_is_no_folder_of_versions(echo):
    with pytest.raises(UsageError, match="give the folder above it"):
        of_folders([str(echo)])


def test_two_folders_of_one_name(echo, tmp_path):
    other = tmp_path / echo.parent.name
    other.mkdir()
    copy_version(echo, other / "1")
    with pytest.raises(UsageError, match="two models are named"):
        of_folders([str(echo.parent), str(other)])


def config(tmp_path, text):
    path = tmp_path / "models.config"
    path.write_text(text)
    return of_file(str(path))


def test_a_file_says_all_that_tensorflow_servings_can(tmp_path):
    (tmp_path / "b").mkdir()
    text = """
        model_config_list {
          config { name: "all" base_path: "b" model_version_policy { all {} } }
          config { name: "one" base_path: "b" model_platform: "tensorflow" }
          config {
            name: "two" base_path: "b" model_version_policy { latest { num_versions: 2 } }
            version_labels { key: "stable" value: 3 }
          }
          config {
            name: "some" base_path: "b"
            model_version_policy { specific { versions: 4 versions: 2 } }
          }
        }
    """
    every, one, two, some = config(tmp_path, text)
    assert {model.base_path for model in (every, one, two, some)} == {tmp_path / "b"}
    assert every.wanted([1, 2, 3]) == ([3, 2, 1], 3)
    assert one.wanted([1, 2, 3]) == ([3, 2, 1], 1)
    assert (two.latest, two.labels) == (2, {"stable": 3})
    assert some.wanted([1, 2, 3]) == ([2], 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "lists no model"),
        ("model_config_list {}", "lists no model"),
        ("model_config_list { config { nam: 'a' } }", 'no field named "nam"'),
        ("model_config_list { config { base_path: 'b' } }", "cannot name a model"),
        ("model_config_list { config { name: '../a' base_path: 'b' } }", "cannot name a model"),
        ("model_config_list { config { name: 'a' } }", "has no base_path"),
        (
            "model_config_list { config { name: 'a' base_path: 'b' model_platform: 'jax' } }",
            "platform",
        ),
        (
            "model_config_list { config { name: 'a' base_path: 'b'"
            " model_version_policy { specific {} } } }",
            "names none",
        ),
    ],
    ids=range(8),
)
def test_a_file_that_is_no_configuration_is_one_line(tmp_path, text, words):
    with pytest.raises(UsageError) as caught:
        config(tmp_path, text)
    assert words in str(caught.value)
    assert "models.config" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_base_path_that_is_none(tmp_path):
    with pytest.raises(RunError, match="is no folder"):
        config(tmp_path, "model_config_list { config { name: 'a' base_path: 'nowhere' } }")
