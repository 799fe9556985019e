"""Which jobs there are, what becomes of them, and what the table says of their figures."""

import fcntl
import json
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.leaderboards import IMDB, TWEETS, VOWELS, figures_of, jobs_of, read, store
from zoo import leaderboard
from zoo.config import Config
from zoo.errors import RunError, UsageError
from zoo.leaderboard import Job
from zoo.leaderboard_table import collect

# Stands in for trainers/train.py: what it is to do stands in a file beside the runs' folders.
STAND_IN = """
import json, os, pathlib, signal, sys, time
flags = dict(one[2:].split("=", 1) for one in sys.argv[1:])
folder = pathlib.Path(flags["workdir"])
folder.mkdir(exist_ok=True)
print("begun", flush=True)
exec((folder.parents[2] / "script.py").read_text())
"""
FINISH = "(folder / 'metrics.json').write_text((folder.parents[2] / 'figures.json').read_text())"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "figures.json").write_text(json.dumps(figures_of(Config())))
    (tmp_path / "script.py").write_text(FINISH)
    (tmp_path / "train.py").write_text(STAND_IN)
    return tmp_path


def run(jobs, root, resume=True):
    return leaderboard.run(jobs, root, [sys.executable, str(root / "train.py")], resume)


def test_jobs_are_of_every_seed_task_and_model_once_and_seeds_come_last():
    jobs = jobs_of(IMDB, TWEETS, IMDB, seeds=(3, 1, 3), models=("bag", "lstm"))
    assert [str(job) for job in jobs] == [
        f"{task} {model} seed {seed}"
        for seed in (3, 1)
        for task in (IMDB, TWEETS)
        for model in ("bag", "lstm")
    ]


def test_left_out_names_stand_for_all_that_fit():
    jobs = jobs_of(models=())
    tasks = {job.config.task for job in jobs}
    assert {IMDB, TWEETS, VOWELS} < tasks
    assert not tasks & {"imdb_reviews", "movie_reviews/rotten_tomatoes_all"}
    assert {job.config.model for job in jobs if job.config.task == IMDB} == set(leaderboard.MODELS)
    of_tracks = {job.config.model for job in jobs if job.config.task == VOWELS}
    assert of_tracks == set(leaderboard.MODELS) - leaderboard.WITHOUT_EMBEDDING


@pytest.mark.parametrize(
    ("tasks", "models", "words"),
    [
        (["tweet"], [], "unknown task 'tweet': did you mean 'tweets'"),
        ([TWEETS], ["bagg"], "unknown model 'bagg': did you mean 'bag'"),
        (["movie_reviews/rotten_tomatoes_all"], [], "has no test split"),
        ([VOWELS], ["nb_ngram"], "nothing to do: none of nb_ngram reads japanese_vowels"),
    ],
)
def test_what_cannot_be_planned_is_told(tasks, models, words):
    with pytest.raises(UsageError, match=words):
        leaderboard.plan(tasks, models, [0], Path(__file__).parent, read)


def test_recipes_that_are_not_there_are_told():
    with pytest.raises(UsageError, match="--recipes=none cannot work: it is no folder"):
        jobs_of(IMDB, recipes=Path("none"))


def test_a_models_own_recipe_goes_before_the_tasks(tmp_path):
    for name in ("movie_reviews-imdb", "movie_reviews-imdb-bag"):
        (tmp_path / f"{name}.flags").write_text("--epochs=1")
    models = ("bag", "lstm", "nb_ngram")
    flags = {job.config.model: job.flags for job in jobs_of(IMDB, models=models, recipes=tmp_path)}
    assert flags["bag"][0] == f"--flagfile={tmp_path}/movie_reviews-imdb-bag.flags"
    assert flags["lstm"][0] == f"--flagfile={tmp_path}/movie_reviews-imdb.flags"
    assert flags["lstm"][1:] == (f"--task={IMDB}", "--model=lstm", "--seed=0")
    assert {"--word_vectors=none", "--embedding_step_rate=1"} < set(flags["nb_ngram"])
    assert jobs_of(TWEETS, recipes=tmp_path)[0].flags[0] == "--task=tweets"


def test_a_recipe_that_cannot_work_is_named(tmp_path):
    (tmp_path / "tweets.flags").write_text("")
    with pytest.raises(UsageError, match=r"tweets\.flags: --seed=-1 cannot work"):
        leaderboard.plan([TWEETS], ["bag"], [-1], tmp_path, read)


def test_a_job_that_is_finished_is_not_run_again(root, capsys):
    (job,) = jobs = jobs_of(IMDB)
    store(root, job)
    (job.folder(root) / "checkpoints").mkdir()
    assert run(jobs, root) == []
    assert "finished before, test accuracy 0.8000, 12 s of training" in capsys.readouterr().out
    assert job.folder(root).with_name("0.log").read_text() == ""
    assert not (job.folder(root) / "checkpoints").exists()


def test_a_run_that_left_test_unscored_is_not_finished(root, capsys):
    (job,) = jobs = jobs_of(IMDB)
    store(root, job)
    path = job.folder(root) / "metrics.json"
    figures = json.loads(path.read_text())
    path.write_text(json.dumps({name: of for name, of in figures.items() if name != "test"}))
    with pytest.raises(RunError, match="holds no finished run"):
        collect(jobs, root)
    assert run(jobs, root) == []
    assert "seed 0: test accuracy 0.8000" in capsys.readouterr().out


def test_a_finished_job_of_other_flags_is_a_failure(root, capsys):
    (job,) = jobs = jobs_of(IMDB)
    store(root, Job(Config(task=IMDB, model="bag", epochs=2), ()))
    assert run(jobs, root) == [str(job)]
    assert "of another configuration (epochs: 2 there, 5 asked)" in capsys.readouterr().out


def test_a_job_that_fails_is_a_line_and_the_others_go_on(root, capsys):
    (root / "script.py").write_text(
        f"""
if flags["seed"] == "0": sys.exit("train.py: no disk")
if flags["seed"] == "1": os.kill(os.getpid(), signal.SIGKILL)
if flags["seed"] != "2": {FINISH}
"""
    )
    jobs = jobs_of(IMDB, seeds=range(4))
    assert run(jobs, root) == [f"{IMDB} bag seed {seed}" for seed in range(3)]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "[1/4] movie_reviews/imdb bag seed 0: failed: exit code 1: train.py:"
    )
    assert f"no disk ({root}/movie_reviews-imdb/bag/0.log)" in lines[0]
    assert "seed 1: failed: killed by SIGKILL" in lines[1]
    assert "seed 2: failed: it ended without figures" in lines[2]
    assert lines[3].startswith("[4/4] movie_reviews/imdb bag seed 3: test accuracy 0.8000")
    log = (root / "movie_reviews-imdb" / "bag" / "0.log").read_text()
    assert log.startswith(f"$ {sys.executable} {root}/train.py --task=movie_reviews/imdb")
    assert log.endswith("begun\ntrain.py: no disk\n")


def test_runs_in_the_folder_are_met_on_purpose_alone(root):
    jobs = jobs_of(IMDB, seeds=(0, 1))
    store(root, jobs[1])
    with pytest.raises(UsageError, match=r"holds 1 of these 2 runs: give --resume"):
        run(jobs, root, resume=False)


def test_a_job_in_other_hands_is_put_off_and_waited_for(root, capsys):
    jobs = jobs_of(IMDB, seeds=(0, 1))
    path = jobs[0].folder(root).with_name("0.log")
    path.parent.mkdir(parents=True)

    def finish():
        # Not before it is waited for.
        while not jobs[1].folder(root).joinpath("metrics.json").exists():
            time.sleep(0.01)
        time.sleep(0.3)
        store(root, jobs[0], accuracy=0.7)
        other.close()

    with open(path, "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = threading.Thread(target=finish)
        thread.start()
        assert run(jobs, root) == []
        thread.join()
    said = [line.split("imdb ")[1] for line in capsys.readouterr().out.splitlines()]
    assert said[0] == "bag seed 0: another process is at work on it: put off"
    assert said[1].startswith("bag seed 1: test accuracy 0.8000")
    assert said[2] == "bag seed 0: another process is at work on it: waiting for it"
    assert said[3].startswith("bag seed 0: finished before, test accuracy 0.7000")
    assert len(said) == 4


@pytest.mark.parametrize(
    ("number", "ending"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_reaches_the_job_and_ends_the_program_after_it(root, number, ending):
    (root / "script.py").write_text(
        """
signal.signal(signal.SIGINT, lambda *_: sys.exit("saved"))
signal.signal(signal.SIGTERM, lambda *_: sys.exit("saved"))
os.kill(os.getppid(), int((folder.parents[2] / "number").read_text()))
time.sleep(60)
"""
    )
    (root / "number").write_text(str(int(number)))
    jobs = jobs_of(IMDB, seeds=(0, 1))
    before = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    with pytest.raises(ending) as caught:
        run(jobs, root)
    if ending is SystemExit:
        assert caught.value.code == 143
    folder = jobs[0].folder(root)
    assert folder.with_name("0.log").read_text().endswith("begun\nsaved\n")
    assert not jobs[1].folder(root).exists()
    assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)] == before
    (root / "script.py").write_text(FINISH)
    assert run(jobs, root) == []


def test_what_outlives_a_killed_leaderboard_keeps_its_job(root):
    """The log is locked as long as any process has it, be it a grandchild."""
    (root / "script.py").write_text(
        f"""
import subprocess
code = "import time; time.sleep(1.5)"
subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, pass_fds=[1])
{FINISH}
"""
    )
    jobs = jobs_of(IMDB)
    run(jobs, root)
    with open(jobs[0].folder(root).with_name("0.log"), "ab") as log:
        with pytest.raises(BlockingIOError):
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(log, fcntl.LOCK_EX)
