"""Generated workloads, by the parameters that the field uses for them."""

from collections.abc import Iterable
from itertools import count
from math import gcd
from random import Random

from extproc.errors import GatewayError
from extproc.simulation.calls import Call
from extproc.simulation.trace import Trace
from modelsim.profile import BLOCK_SIZE


class WorkloadError(GatewayError):
    """Parameters that make no workload."""


class Names:
    """Names for blocks, each used once."""

    def __init__(self) -> None:
        self._next = count(1)

    def __call__(self, blocks: int) -> tuple[int, ...]:
        return tuple([next(self._next) for _ in range(blocks)])


class Agents:
    """Conversations that share a few long beginnings (tools, a system prompt) and grow with each turn.

    The next turn comes `think` seconds after an answer. Each conversation is a tenant's, with as many tenants as
    beginnings.
    """

    block_tokens = 512

    def __init__(
        self,
        rng: Random,
        *,
        conversations: int = 120,
        turns: int = 12,
        beginnings: int = 3,
        beginning_tokens: int = 15_360,
        turn_blocks: tuple[int, int] = (1, 5),
        output_tokens: int = 300,
        think: float = 12.0,
        within: float = 240.0,
    ) -> None:
        """Makes a workload.

        Args:
            rng: draws when conversations begin, which beginning each has, and how much each turn adds.
            conversations: how many.
            turns: of each.
            beginnings: different ones.
            beginning_tokens: length of each.
            turn_blocks: least and most blocks of 512 tokens that a turn adds.
            output_tokens: of each answer.
            think: seconds from an answer to the next turn.
            within: seconds in which all conversations begin.
        """
        self._size = conversations * turns
        self._output = output_tokens
        self._think = think
        names = Names()
        shared = [names(-(-beginning_tokens // self.block_tokens)) for _ in range(beginnings)]
        self._tenants = [index % beginnings for index in range(conversations)]
        self._begins = [rng.uniform(0.0, within) for _ in range(conversations)]
        # Drawn now, so that it does not depend on which turn ends first.
        self._turns: list[list[tuple[int, ...]]] = []
        for index in range(conversations):
            prompt = shared[self._tenants[index]]
            prompts = []
            for _ in range(turns):
                prompt = (*prompt, *names(rng.randint(*turn_blocks)))
                prompts.append(prompt)
            self._turns.append(prompts[::-1])

    @property
    def size(self) -> int:
        return self._size

    def begin(self) -> Iterable[Call]:
        return [self._call(index, at) for index, at in enumerate(self._begins)]

    def after(self, call: Call, now: float) -> Call | None:
        return self._call(call.thread, now + self._think) if self._turns[call.thread] else None

    def _call(self, index: int, at: float) -> Call:
        blocks = self._turns[index].pop()
        tokens = len(blocks) * self.block_tokens
        return Call(at, tokens, self._output, blocks, tenant=f"agent-{self._tenants[index]}", thread=index)


def shared_prefixes(
    rng: Random,
    *,
    groups: int = 150,
    questions: int = 5,
    system_tokens: int = 6_000,
    question_tokens: int = 1_200,
    output_tokens: int = 1_000,
    rate: float = 20.0,
    seconds: float = 240.0,
) -> Trace:
    """Groups of prompts with a common beginning, asked at random moments: inference-perf's `shared_prefix`.

    Args:
        rng: draws moments and order.
        groups: of prompts that begin alike.
        questions: different ones in each group, which come again and again.
        system_tokens: the common beginning.
        question_tokens: the rest of a prompt.
        output_tokens: of each answer.
        rate: requests a second, as a Poisson process.
        seconds: for which they come.
    """
    block = common_block(system_tokens, question_tokens)
    names = Names()
    prompts: list[tuple[int, ...]] = []
    for _ in range(groups):
        system = names(system_tokens // block)
        prompts += [(*system, *names(question_tokens // block)) for _ in range(questions)]
    tokens = system_tokens + question_tokens
    calls: list[Call] = []
    at = rng.expovariate(rate)
    order: list[int] = []
    while at < seconds:
        if not order:
            order = list(range(len(prompts)))
            rng.shuffle(order)
        number = order.pop()
        calls.append(Call(at, tokens, output_tokens, prompts[number], tenant=f"group-{number // questions % 4}"))
        at += rng.expovariate(rate)
    return Trace(calls, block)


class ClosedLoop:
    """A fixed number of clients, each of which asks again as soon as it is answered: Kthena's benchmark by default.

    (SGLang's `generated-shared-prefix`: 256 groups of 32 prompts with a common beginning of 4,096 tokens, at most 300
    at once. Lengths of the rest and of answers are not published: they are SGLang's defaults, 128 and 256.)
    """

    def __init__(
        self,
        rng: Random,
        *,
        groups: int = 256,
        prompts: int = 32,
        system_tokens: int = 4_096,
        question_tokens: int = 128,
        output_tokens: int = 256,
        clients: int = 300,
    ) -> None:
        """Makes a workload. `rng` draws the order; `prompts` are of each group, each asked once."""
        self.block_tokens = block = common_block(system_tokens, question_tokens)
        names = Names()
        left: list[tuple[int, ...]] = []
        for _ in range(groups):
            system = names(system_tokens // block)
            left += [(*system, *names(question_tokens // block)) for _ in range(prompts)]
        rng.shuffle(left)
        self._left = left
        self._tokens = system_tokens + question_tokens
        self._output = output_tokens
        self._clients = clients
        self._size = len(left)

    @property
    def size(self) -> int:
        return self._size

    def begin(self) -> Iterable[Call]:
        return [call for _ in range(self._clients) if (call := self._call(0.0)) is not None]

    def after(self, call: Call, now: float) -> Call | None:  # noqa: ARG002 - contract
        return self._call(now)

    def _call(self, at: float) -> Call | None:
        return Call(at, self._tokens, self._output, self._left.pop()) if self._left else None


def unique(
    rng: Random, *, tokens: int = 2_048, output_tokens: int = 256, rate: float = 10.0, seconds: float = 240.0
) -> Trace:
    """Prompts that have nothing in common, as a Poisson process of `rate` a second. Lengths vary by half, evenly."""
    names = Names()
    calls: list[Call] = []
    at = rng.expovariate(rate)
    while at < seconds:
        length = rng.randint(max(tokens // 2, 1), tokens + tokens // 2)
        output = rng.randint(max(output_tokens // 2, 1), output_tokens + output_tokens // 2)
        calls.append(Call(at, length, output, names(-(-length // 512))))
        at += rng.expovariate(rate)
    return Trace(calls, 512)


def common_block(*lengths: int) -> int:
    """The largest block of which all lengths are multiples, and which engines can divide.

    Raises:
        WorkloadError: a length is no multiple of an engine's block.
    """
    for length in lengths:
        if length < BLOCK_SIZE or length % BLOCK_SIZE:
            raise WorkloadError(f"a length of {length} tokens: it must be a multiple of {BLOCK_SIZE}, at least that")
    return gcd(*lengths)
