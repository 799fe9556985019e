"""One step of training shared by many: devices of this machine, or machines, by `tf.distribute`.

A batch's rows are dealt out to the replicas, each of which has all weights and computes the loss of
its own rows. With `l_r` the mean loss of replica `r` over its `n_r` answers, and `n` the sum of
these, the loss of the batch and its gradient are

    l = sum_r (n_r / n) l_r        dl/dw = sum_r (n_r / n) dl_r/dw

which is what one device would compute, however unequal the shares are. The gradients are summed
before they are clipped, so that every replica takes the very step that one would have taken alone.
"""

import contextlib
import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.batching import batches
from zoo.cluster import read_cluster
from zoo.errors import RunError, UsageError, reason
from zoo.interrupts import Signals
from zoo.splits import Split

# What TensorFlow raises where a worker, or the way to it, is gone.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnknownError,
)
# What may end all workers at once, at the step that all have reached.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class PeerLost(RunError):
    """Another worker of the cluster is gone; a process that begins anew can meet it again."""


class SummedAdamW(keras.optimizers.AdamW):
    """AdamW for gradients that are sums over all replicas already, as clipping needs them to be."""

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> list[Any]:
        return list(grads_and_vars)


@contextlib.contextmanager
def _losses_named() -> Iterator[None]:
    try:
        yield
    except _LOST as error:
        raise PeerLost(f"a worker of the cluster is lost ({reason(error)})") from error


class Team:
    """All replicas that share a run; this process holds one of them or several.

    One worker, the chief, leads: it validates, writes all files, and says to the others, by `tell`,
    at which epoch they go on together, and with which weights. These need no folder of the run.

    Args:
        strategy: of `tf.distribute`; `None` for a single device, which costs nothing then.
        num_workers: processes.
        index: this process's place among them; the chief's is 0.
        signals: what may interrupt this process. All workers heed it after the same step.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy | None = None,
        num_workers: int = 1,
        index: int = 0,
        signals: Signals | None = None,
    ) -> None:
        self._strategy = strategy
        self._signals = signals or Signals()
        self.num_workers = num_workers
        self.is_chief = index == 0
        self.num_replicas = strategy.num_replicas_in_sync if strategy else 1
        self._here = self.num_replicas // num_workers
        self._first = index * self._here
        self._others_wait = self.is_chief and num_workers > 1
        if strategy is not None:
            self._caught = tf.Variable(tf.zeros([len(_SIGNALS)]), trainable=False)
            self._agreed = tf.Variable(tf.zeros([len(_SIGNALS)]), trainable=False)
            self._sum_of_all = self.compile(self._summed, [tf.TensorSpec([None], "int64")])

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Within it, a variable that is made is made on every replica, with the chief's value.

        Raises:
            PeerLost: if a worker is gone.
        """
        alone = contextlib.nullcontext()
        with _losses_named(), self._strategy.scope() if self._strategy else alone:
            yield

    def batches(self, split: Split, plan: Sequence[np.ndarray], start: int = 0) -> Any:
        """As `zoo.batching.batches`, each batch being this process's shares of it."""
        if self._strategy is None:
            return batches(split, list(plan), start)
        return self._shares(split, plan[start:])

    def _shares(self, split: Split, plan: Sequence[np.ndarray]) -> Iterator[tuple[Any, Any, Any]]:
        for rows in plan:
            dealt = [deal(rows, self._first + i, self.num_replicas) for i in range(self._here)]
            padded = list(batches(split, [share.rows for share in dealt]))
            inputs, labels = (list(part) for part in zip(*padded, strict=True))
            yield inputs, labels, [tf.constant(share.counts, "int32") for share in dealt]
        self._others_wait = self.is_chief and self.num_workers > 1

    def compile(self, function: Callable[..., Any], signature: list[Any]) -> Callable[..., Any]:
        """A function of one replica's share as one graph that all replicas run together.

        Args:
            function: takes what `signature` says and, where there are replicas, an `int32[]`
                besides: 0 if its share stands in for none, else 1.
            signature: of its first arguments.

        Returns:
            A function of lists, one share a replica of this process, or, without replicas, of the
            arguments themselves. It raises `PeerLost` if a worker is gone.
        """
        strategy = self._strategy
        if strategy is None:
            # Without AutoGraph: nothing here depends on the values of tensors.
            return tf.function(function, signature, autograph=False)

        def all_shares(*parts: Any) -> Any:
            def share(replica: tf.distribute.experimental.ValueContext) -> Any:
                place = replica.replica_id_in_sync_group - self._first
                return tuple(part[place] for part in parts)

            shares = strategy.experimental_distribute_values_from_function(share)
            results = strategy.run(function, shares)
            return tf.nest.map_structure(
                lambda result: strategy.experimental_local_results(result)[0], results
            )

        specs = [[spec] * self._here for spec in (*signature, tf.TensorSpec([], "int32"))]
        graph = tf.function(all_shares, specs, autograph=False)

        def together(*parts: Any) -> Any:
            self._note_signal()
            with _losses_named():
                return graph(*parts)

        return together

    def _note_signal(self) -> None:
        if self.num_workers > 1 and self._signals.caught in _SIGNALS:
            caught = [float(number == self._signals.caught) for number in _SIGNALS]
            self._caught.assign(caught)

    def pool(
        self, loss: tf.Tensor, correct: tf.Tensor, answers: tf.Tensor, counts: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """What a replica's loss adds to the batch's, and the figures of the whole batch.

        Args:
            loss: `float32[]`, the mean over the answers of this share.
            correct, answers: `int[]`, of this share.
            counts: `int32[]`, 0 if the share stands in for none, else 1; `None` without replicas.

        Returns:
            `float32[]`, the part of the loss that is this share's, which is what is differentiated;
            `float32[]`, the batch's mean loss; and its right answers and all of them, `int[]`.
        """
        if self._strategy is None:
            return loss, loss, correct, answers
        weight = tf.cast(answers * counts, "float32")
        right = tf.cast(correct * tf.cast(counts, correct.dtype), "float32")
        own = tf.concat([tf.stack([loss * weight, right, weight]), self._caught], axis=0)
        total = tf.distribute.get_replica_context().all_reduce("SUM", own)
        self._agreed.assign(total[3:])
        most = tf.maximum(total[2], 1)
        figures = total[0] / most, tf.cast(total[1], "int32"), tf.cast(total[2], "int32")
        return loss * (weight / most), *figures

    def sum(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """The sums over all replicas."""
        if self._strategy is None:
            return gradients
        return tf.distribute.get_replica_context().all_reduce("SUM", gradients)

    @property
    def asked_to_stop(self) -> bool:
        """Whether a signal has been caught, and all workers know of it: `Signals.stop` then ends.

        While the others wait for the chief, its own signals are enough: `leading` tells them.
        """
        if self.num_workers > 1 and not self._others_wait:
            agreed = self._agreed.numpy()
            heard = [number for number, n in zip(_SIGNALS, agreed, strict=True) if n]
            # One that was caught after this step will be heard of after the next one.
            self._signals.caught = heard[-1] if heard else self._signals.caught
            return bool(heard)
        return self._signals.caught is not None

    @contextlib.contextmanager
    def leading(self) -> Iterator[None]:
        """The chief's run: what ends it while the others wait for its word ends these too."""
        try:
            yield
        except BaseException as error:
            if self._others_wait and not isinstance(error, PeerLost):
                why = reason(error) if isinstance(error, Exception) else ""
                with contextlib.suppress(RunError):
                    self._send({"signal": self._signals.caught, "failure": why})
            raise
        if self._others_wait:
            self._send({"done": True})

    def require_same(self, config: Any, data: Any) -> None:
        """Refuses a worker whose run is not the chief's; to be called before any variable is made.

        Making one takes all workers, and breaks if theirs differ in shape or number.

        Args:
            config: a `zoo.config.Config`, or one of pretraining.
            data: what is trained on.

        Raises:
            UsageError: if the chief has another configuration.
            RunError: if it has other data, or has failed.
            PeerLost: if a worker is gone.
            KeyboardInterrupt, SystemExit: if the chief was told to end.
        """
        if self.num_workers == 1:
            return
        if self.is_chief:
            self._send({"config": config.to_json(), "fingerprint": data.fingerprint})
            return
        word = self._receive()
        differences = type(config).from_json(word["config"]).differences(config)
        if differences:
            raise UsageError(f"the chief was started otherwise: {'; '.join(differences)}")
        if word["fingerprint"] != data.fingerprint:
            raise RunError(f"the chief has other data of {config.task}: prepare the same here")

    def tell(self, message: Mapping[str, Any], variables: Mapping[str, list[tf.Variable]]) -> None:
        """The chief's word: what is to be done now, and with which values of all variables."""
        if self.num_workers == 1:
            return
        self._send(message)
        for variable in _flat(variables):
            self._broadcast(variable.numpy().tobytes())
        self._others_wait = False

    def break_off(self) -> None:
        """Notes that no worker goes on with this epoch: the others wait for the chief's word."""
        self._others_wait = self.is_chief and self.num_workers > 1

    def hear(self, variables: Mapping[str, list[tf.Variable]]) -> dict[str, Any] | None:
        """Waits for the chief's word, and takes over its variables.

        Returns:
            The message; `None` when the run is done.

        Raises:
            RunError: if the chief has failed.
            PeerLost: if a worker is gone.
            KeyboardInterrupt, SystemExit: if the chief was told to end.
        """
        message = self._receive()
        if message.get("done"):
            return None
        for variable in _flat(variables):
            value = np.frombuffer(self._broadcast(b""), variable.dtype.as_numpy_dtype)
            variable.assign(value.reshape(variable.shape))
        return message

    def _send(self, message: Mapping[str, Any]) -> None:
        self._broadcast(json.dumps(dict(message)).encode())

    def _receive(self) -> dict[str, Any]:
        message = json.loads(self._broadcast(b""))
        if "failure" in message:
            self._signals.caught = message["signal"]
            self._signals.stop()
            raise RunError(f"the chief has failed: {message['failure']}")
        return message

    def _broadcast(self, content: bytes) -> bytes:
        """The chief's bytes, on every worker."""
        size = self._total(np.array([len(content)]))[0]
        words = np.zeros(-(-size // 8), "int64")
        words.view("uint8")[: len(content)] = np.frombuffer(content, "uint8")
        return self._total(words).tobytes()[:size]

    def _total(self, numbers: np.ndarray) -> np.ndarray:
        """The sum over all workers, of which the chief alone has anything but 0."""
        own = tf.constant(numbers if self.is_chief else np.zeros_like(numbers), "int64")
        shares = [own, *[tf.zeros_like(own)] * (self._here - 1)]
        return self._sum_of_all(shares, [tf.constant(1)] * self._here).numpy()

    def _summed(self, numbers: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
        del counts
        # As a tensor of this replica's device, which the sum goes by.
        return tf.distribute.get_replica_context().all_reduce("SUM", tf.identity(numbers))


def _flat(variables: Mapping[str, list[tf.Variable]]) -> list[tf.Variable]:
    return [variable for name in sorted(variables) for variable in variables[name]]


@dataclass(frozen=True)
class Share:
    """The rows of a batch that one replica takes.

    Args:
        rows: numbers of the rows; one at least.
        counts: whether they count: a replica without rows of its own computes one of another's.
    """

    rows: np.ndarray
    counts: bool


def deal(rows: np.ndarray, replica: int, num_replicas: int) -> Share:
    """One replica's share of a batch's rows: every so manieth, so that all have like lengths.

    Args:
        rows: `int[B]`, at least one.
        replica: which one, from 0.
        num_replicas: how many there are.

    Example:
        >>> [deal(np.array([7, 3, 5]), replica, 2).rows.tolist() for replica in range(2)]
        [[7, 5], [3]]
        >>> deal(np.array([7]), 1, 2)
        Share(rows=array([7]), counts=False)
    """
    own = rows[replica::num_replicas]
    return Share(own, True) if len(own) else Share(rows[:1], False)


def is_chief(strategy: str) -> bool:
    """Whether this process leads a run, as it does unless `TF_CONFIG` says otherwise.

    Raises:
        UsageError: if `TF_CONFIG` cannot work.
    """
    return strategy != "multi_worker" or read_cluster().is_chief


def make_team(strategy: str, signals: Signals) -> Team:
    """The replicas that a run asks for; to be called before anything runs on TensorFlow.

    It waits until all workers are there, however long that takes.

    Args:
        strategy: `"none"`, `"mirrored"`, all devices of this machine, or `"multi_worker"`.
        signals: what may interrupt this process.

    Raises:
        UsageError: if `TF_CONFIG` cannot work.
        PeerLost: if the cluster did not come together.
    """
    if strategy == "none":
        return Team(signals=signals)
    if strategy == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return Team(tf.distribute.MirroredStrategy([d.name for d in devices]), signals=signals)
    cluster = read_cluster()
    cluster.require_free_port()
    with _losses_named():
        with _signals_ending():
            made = tf.distribute.MultiWorkerMirroredStrategy()
        return Team(made, len(cluster.addresses), cluster.index, signals)


@contextlib.contextmanager
def _signals_ending() -> Iterator[None]:
    """SIGINT and SIGTERM end the process at once, as Python hears of neither in here.

    TensorFlow waits for the cluster without letting Python run, and its server then has a handler
    of its own for SIGTERM, which is undone afterwards.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, signal.SIG_DFL) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
