"""Blocks of the networks: their names, the memory of training from one, what a step moves."""

from __future__ import annotations

import numpy as np
import pytest
from weight_files import frozen, small

import facsnet as fn
from facsnet import _core
from facsnet._dialects import NETWORKS

BLOCKS = {
    "mobilenet_v1": ["stem", *(f"block{i}" for i in range(1, 14)), "head"],
    "mobilenet_v2": ["stem", *(f"block{i}" for i in range(1, 18)), "last", "head"],
    **{
        f"densenet{n}": [
            "stem",
            "denseblock1",
            "transition1",
            "denseblock2",
            "transition2",
            "denseblock3",
            "transition3",
            "denseblock4",
            "norm5",
            "head",
        ]
        for n in (121, 169, 201)
    },
    "vgg19": ["block1", "block2", "block3", "block4", "block5", "head"],
    "vgg19_bn": ["block1", "block2", "block3", "block4", "block5", "head"],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_blocks(name: str) -> None:
    network = small(name)
    assert network.blocks == BLOCKS[name]
    bytes_of = [network.plan_bytes(batch=4, training=True, unfreeze=block) for block in network.blocks]
    assert bytes_of[0] == network.plan_bytes(batch=4, training=True)
    assert bytes_of == sorted(bytes_of, reverse=True) and bytes_of[-1] < bytes_of[0]
    with pytest.raises(ValueError, match=rf"'nobody', want 'all' or one of {BLOCKS[name][0]}, .*head"):
        network.resolve_block("nobody")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_moves_what_is_unfrozen(name: str) -> None:
    """Every parameter and statistic from the block on, and nothing below it."""
    x = np.random.default_rng(0).normal(size=(6, 64, 64, 3)).astype(np.float32)
    y = (np.random.default_rng(1).random((6, 3)) < 0.5).astype(np.float32)
    block_of = {row[0]: row[2] for row in small(name)._core.parameter_rows()}
    for block in BLOCKS[name][::3]:
        network = small(name, width=0.125)
        trainer = _core.StageTrainer(
            network._core,
            block,
            False,
            False,
            1e-2,
            fn.Loss("bce")._specification(),
            fn.Optimiser().row(),
            fn.Schedule().row(1),
            None,
            6,
            0,
        )
        before = frozen(network)
        trainer.step(x, y, np.ones_like(y), 0.0)
        after = frozen(network)
        moved = {parameter for parameter in before if before[parameter] != after[parameter]}
        start = BLOCKS[name].index(block)
        free = {p for p, b in block_of.items() if BLOCKS[name].index(b) >= start}
        assert moved == free, block
