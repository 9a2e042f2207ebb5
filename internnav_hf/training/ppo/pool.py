"""Environments that step together, in processes of their own; what they see is in shared memory.

A process steps its share one after another. Commands go through pipes, and are a word each; images,
goals, rewards and ends are written where the training reads them. A process that dies is named, and
none outlives the training.
"""

import signal
from collections.abc import Sequence
from typing import Any

import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor

from internnav_hf.signals import quiet_worker
from internnav_hf.sim.point_goals import RESULTS, PointGoalTask

_DTYPES = {"pointgoal": torch.float32, "depth": torch.float32, "rgb": torch.uint8}
_SECONDS_TO_END = 10


class EnvironmentPool:
    """An environment of `task` for each of `seeds`, in `num_workers` processes; 0: in this one.

    `observations` (N, ...) of the views asked for and of the goal, `rewards` and `done` (N,), and
    `results` (N, R), those of `RESULTS` where `done`: of the last `step`. An environment that is
    done has begun its next episode, which `observations` show.
    """

    def __init__(
        self, task: PointGoalTask, seeds: Sequence[int], views: Sequence[str], num_workers: int
    ):
        """Start the environments."""
        size, count = (task.image_height, task.image_width), len(seeds)
        shapes = {"pointgoal": (2,), "depth": (*size, 1), "rgb": (*size, 3)}
        names = ("pointgoal", *views)
        self.board = {
            name: torch.zeros(count, *shapes[name], dtype=_DTYPES[name]) for name in names
        }
        self.board["rewards"] = torch.zeros(count)
        self.board["done"] = torch.zeros(count, dtype=torch.bool)
        self.board["results"] = torch.zeros(count, len(RESULTS))
        self.board["actions"] = torch.zeros(count, dtype=torch.long)
        self.observations = {name: self.board[name] for name in names}
        self.rewards, self.done = self.board["rewards"], self.board["done"]
        self.results = self.board["results"]
        self._workers: list[_Worker] = []
        self._group: _Group | None = None
        if num_workers == 0:
            self._group = _Group(task, seeds, self.board)
            return
        for tensor in self.board.values():
            tensor.share_memory_()
        num_workers = min(num_workers, count)
        shares = torch.arange(count).tensor_split(num_workers)
        for number, share in enumerate(shares, 1):
            first, end = int(share[0]), int(share[-1]) + 1
            name = (
                f"Environment process {number} of {num_workers} (environments {first} to {end - 1})"
            )
            board = {key: tensor[first:end] for key, tensor in self.board.items()}
            self._workers.append(_Worker(name, task, seeds[first:end], board))

    def reset(self) -> None:
        """Begin a new episode everywhere."""
        self._everywhere("reset")

    def step(self, actions: Tensor) -> None:
        """Take `actions` (N,)."""
        self.board["actions"].copy_(actions)
        self._everywhere("step")

    def states(self) -> list[dict[str, Any]]:
        """`PointGoalEnv.state` of each environment."""
        return [state for states in self._everywhere("states") for state in states]

    def restore(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on from `states`; `observations` show them."""
        if self._group is not None:
            self._group.restore(states)
        for worker in self._workers:
            worker.send("restore", states[: worker.size])
            states = states[worker.size :]
        for worker in self._workers:
            worker.answer()

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join(_SECONDS_TO_END)
        self._workers = []

    def _everywhere(self, command: str) -> list[Any]:
        if self._group is not None:
            return [getattr(self._group, command)()]
        for worker in self._workers:
            worker.send(command)
        return [worker.answer() for worker in self._workers]


class _Group:
    """Environments of one process, and their rows of the board."""

    def __init__(self, task: PointGoalTask, seeds: Sequence[int], board: dict[str, Tensor]):
        self.environments, self.board = task.environments(seeds), board

    def reset(self) -> None:
        for row, environment in enumerate(self.environments):
            self._show(row, environment.reset()[0])

    def step(self) -> None:
        for row, environment in enumerate(self.environments):
            action = int(self.board["actions"][row])
            seen, reward, terminated, truncated, info = environment.step(action)
            self.board["rewards"][row] = reward
            self.board["done"][row] = terminated or truncated
            if terminated or truncated:
                self.board["results"][row] = torch.tensor([info[name] for name in RESULTS])
                seen = environment.reset()[0]
            self._show(row, seen)

    def states(self) -> list[dict[str, Any]]:
        return [environment.state() for environment in self.environments]

    def restore(self, states: Sequence[dict[str, Any]]) -> None:
        for row, (environment, state) in enumerate(zip(self.environments, states, strict=True)):
            self._show(row, environment.restore(state))

    def _show(self, row: int, seen: dict[str, Any]) -> None:
        for name, values in seen.items():
            if name in self.board:
                self.board[name][row] = torch.from_numpy(values)


class _Worker:
    """The training's end of a process."""

    def __init__(
        self, name: str, task: PointGoalTask, seeds: Sequence[int], board: dict[str, Tensor]
    ):
        context = multiprocessing.get_context("forkserver")
        self.name, self.size = name, len(seeds)
        self._connection, theirs = context.Pipe()
        arguments = (theirs, task, tuple(seeds), board)
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()  # so that a dead process closes the pipe

    def send(self, command: str, *arguments: Any) -> None:
        try:
            self._connection.send((command, *arguments))
        except ConnectionError as error:
            raise self._death() from error

    def answer(self) -> Any:
        """What the last command returned; raises its ValueError."""
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise self._death() from error
        if isinstance(answer, ValueError):
            raise answer
        return answer

    def _death(self) -> RuntimeError:
        self.process.join(_SECONDS_TO_END)
        code = self.process.exitcode
        how = "has hung up" if code is None else f"ended with code {code}; its error is above"
        if code is not None and code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
            how += " (is there enough memory?)" if code == -signal.SIGKILL else ""
        return RuntimeError(f"{self.name}, number {self.process.pid}, {how}.")


def _serve(connection: Any, task: PointGoalTask, seeds: Sequence[int], board: dict) -> None:
    """Run in a process of its own: obey until the pipe closes."""
    quiet_worker()
    torch.set_num_threads(1)
    group = _Group(task, seeds, board)
    while True:
        try:
            command, *arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = getattr(group, command)(*arguments)
        except ValueError as error:  # told in one line by the training
            answer = error
        connection.send(answer)
