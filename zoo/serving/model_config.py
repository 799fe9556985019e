"""What is to be served: folders of versions, or TensorFlow Serving's `models.config`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from zoo.errors import RunError, UsageError, reason
from zoo.paths import expanded


@dataclass(frozen=True)
class ServedModel:
    """A model and which of its versions are served.

    Args:
        name: what callers ask for.
        base_path: the folder of its versions.
        latest: how many of the highest versions; 0 for all.
        specific: these versions and no others, if there are any.
        labels: names for versions.
    """

    name: str
    base_path: Path
    latest: int = 1
    specific: frozenset[int] = frozenset()
    labels: dict[str, int] = field(default_factory=dict)

    def wanted(self, found: Sequence[int]) -> tuple[list[int], int]:
        """Of the versions that exist, those that may be served, highest first, and how many.

        Example:
            >>> ServedModel("a", Path("a"), latest=2).wanted([1, 3, 10])
            ([10, 3, 1], 2)
            >>> ServedModel("a", Path("a"), specific=frozenset([1, 7])).wanted([1, 3, 10])
            ([1], 1)
        """
        if self.specific:
            found = [number for number in found if number in self.specific]
        served = len(found) if self.specific or not self.latest else self.latest
        return sorted(found, reverse=True), served


def of_folders(folders: Sequence[str]) -> list[ServedModel]:
    """Each folder as a model of its own name, of which the highest version is served.

    Args:
        folders: such as `saved_models/imdb-bilstm`.

    Raises:
        UsageError: if two have one name, or a folder is a version and not a folder of versions.
        RunError: if a folder is none.
    """
    models = []
    for folder in folders:
        path = expanded(folder).absolute()
        if (path / "saved_model.pb").is_file():
            raise UsageError(f"{folder} is one version: give the folder above it, {path.parent}")
        models.append(ServedModel(_name(path.name), path))
    return _checked(models)


def of_file(path: str) -> list[ServedModel]:
    """The models of a file in the text format of TensorFlow Serving's `ModelServerConfig`.

    Args:
        path: the file. A relative `base_path` in it starts at the file's own folder.

    Raises:
        RunError: if it cannot be read.
        UsageError: if it is none, or says what cannot be served.
    """
    try:
        text = expanded(path).read_text("utf-8")
        config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    except OSError as error:
        raise RunError(f"--model_config_file={path} cannot be read: {reason(error)}") from error
    except (UnicodeDecodeError, text_format.ParseError) as error:
        raise UsageError(
            f"--model_config_file={path} is no models.config: {reason(error)}"
        ) from error
    if config.WhichOneof("config") != "model_config_list" or not config.model_config_list.config:
        raise UsageError(f"--model_config_file={path} lists no model in model_config_list")
    folder = expanded(path).absolute().parent
    try:
        return _checked([_model(entry, folder) for entry in config.model_config_list.config])
    except (RunError, UsageError) as error:
        raise type(error)(f"--model_config_file={path}: {error}") from error


def _model(entry: object, folder: Path) -> ServedModel:
    config: model_server_config_pb2.ModelConfig = entry
    name = _name(config.name)
    if config.model_platform not in ("", "tensorflow"):
        raise UsageError(f"model {name!r} is of the platform {config.model_platform!r}")
    if not config.base_path:
        raise UsageError(f"model {name!r} has no base_path")
    policy = config.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    latest, specific = 1, frozenset[int]()
    if choice == "latest":
        latest = policy.latest.num_versions or 1
    elif choice == "all":
        latest = 0
    elif choice == "specific":
        specific = frozenset(policy.specific.versions)
        if not specific:
            raise UsageError(f"model {name!r} is to serve specific versions, and names none")
    base_path = folder / expanded(config.base_path)
    return ServedModel(name, base_path, latest, specific, dict(config.version_labels))


def _name(name: str) -> str:
    if not name or not name.isprintable() or set(name) & set("/:?#%\\") or name in (".", ".."):
        raise UsageError(f"{name!r} cannot name a model: it has to stand in an address")
    return name


def _checked(models: list[ServedModel]) -> list[ServedModel]:
    names = [model.name for model in models]
    for model in models:
        if names.count(model.name) > 1:
            raise UsageError(f"two models are named {model.name!r}")
        if not model.base_path.is_dir():
            raise RunError(f"{model.base_path} is no folder: model {model.name!r} has no versions")
    return models
