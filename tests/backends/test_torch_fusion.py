"""Fusion and network: what is absent does not count, and every coalition is the network on that coalition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equilib import coalitions
from equilib_torch.data.batches import take
from equilib_torch.errors import InputError
from equilib_torch.network import FUSIONS, MultimodalNetwork, NetworkConfig, configure
from equilib_torch.network.fusion import ConcatFusion, SumFusion

KINDS = ("vector", "sequence", "image", "colour")


@pytest.fixture
def case(make_dataset, make_network):
    """A data set with absent modalities, a network for it in eval mode, and a batch."""

    def make(fusion, n=3, missing=0.3, **options):
        dataset = make_dataset(n, kinds=KINDS, missing=missing)
        network = make_network(dataset, fusion, **options).eval()
        if network.memory is not None:
            network.memory.initial.normal_()
            network.memory.order.copy_(torch.arange(n).flip(0))
        return dataset, network, take(dataset, np.arange(12))

    return make


def test_the_toy_data_set_has_absent_modalities(case):
    present = case("sum")[2].present
    assert not present.all()
    assert present.any(1).all()


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_every_coalition_is_the_network_on_each(case, fusion, n):
    _, network, batch = case(fusion, n)
    features = network.encode(batch)
    table = network.every_coalition(features, batch.present)
    assert table.shape == (2**n, 12, 3)
    for row, logits in zip(torch.from_numpy(coalitions(n)), table, strict=True):
        torch.testing.assert_close(logits, network.fuse(features, batch.present & row))
    torch.testing.assert_close(table[-1], network(batch))


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("training", [True, False])
def test_what_is_absent_has_no_influence(case, fusion, training):
    _, network, batch = case(fusion, mapping="both")
    network.train(training)
    expected = network(batch)
    inputs = tuple(
        torch.where(batch.present[:, k].view(-1, *[1] * (x.ndim - 1)), x, 1e6) for k, x in enumerate(batch.inputs)
    )
    assert torch.equal(network(batch._replace(inputs=inputs)), expected)
    features = [
        torch.where(batch.present[:, [k]], z, 1e30 if k % 2 else -1e30) for k, z in enumerate(network.encode(batch))
    ]
    assert torch.equal(network.fuse(features, batch.present), expected)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_is_present_has_influence(case, fusion):
    _, network, batch = case(fusion, missing=0.0)
    features = list(network.encode(batch))
    for k in range(3):
        changed = [z + 1 if j == k else z for j, z in enumerate(features)]
        difference = network.fuse(changed, batch.present) - network.fuse(features, batch.present)
        assert difference.abs().amax(1).min() > 1e-4


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_empty_coalition_answers_the_training_frequencies(case, fusion):
    dataset, network, batch = case(fusion)
    batch = batch._replace(present=torch.zeros_like(batch.present))
    counts = np.bincount(dataset.labels[dataset.splits["train"]])
    torch.testing.assert_close(network(batch).softmax(-1), torch.tensor(counts / counts.sum()).float().expand(12, -1))
    torch.testing.assert_close(network.every_coalition(network.encode(batch), batch.present)[-1], network(batch))


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("mapping", ["none", "feature", "sample", "both"])
def test_in_eval_mode_a_prediction_does_not_depend_on_its_batch(case, fusion, mapping):
    _, network, batch = case(fusion, mapping=mapping)
    together = network(batch)
    for i in range(len(batch.labels)):
        torch.testing.assert_close(network(batch.rows(slice(i, i + 1)))[0], together[i], atol=1e-5, rtol=1e-5)


def test_sum_is_the_mean_of_log_probabilities_of_those_present():
    unimodal = [torch.randn(50, 4) for _ in range(3)]
    present = torch.rand(50, 3) < 0.6
    present[:, 0] |= ~present.any(1)
    logits = SumFusion()([], unimodal, present)
    log_probabilities = torch.stack([x.log_softmax(-1) for x in unimodal], 1)  # (B, n, n_classes)
    mean = (log_probabilities * present[..., None]).sum(1) / present.sum(1, keepdim=True)
    assert torch.equal(logits.argmax(-1), mean.argmax(-1))


def test_concat_is_one_linear_layer_where_all_are_present():
    fusion = ConcatFusion([2, 3], 4)
    z = [torch.randn(5, 2), torch.randn(5, 3)]
    weight = torch.cat([block.weight for block in fusion.blocks], 1)
    bias = sum(block.bias for block in fusion.blocks)
    expected = torch.cat(z, 1) @ weight.T + bias
    torch.testing.assert_close(fusion(z, [], torch.ones(5, 2, dtype=torch.bool)), expected)


@pytest.mark.parametrize("missing", [0.0, 0.6])
def test_memory_fusion_adds_to_the_sum_where_two_or_more_are_present(case, missing):
    _, network, batch = case("memory", missing=missing)
    features = network.encode(batch)
    unimodal, h = network.unimodal(features), network.memory(features, batch.present)
    hidden, head = network.fusion.hidden, network.fusion.head
    several = [i for i in range(12) if batch.present[i].sum() > 1]
    assert (len(several) < 12) == (missing > 0)
    for i in several:
        summed = sum(unimodal[k][i] for k in range(3) if batch.present[i, k])
        added = head.weight @ torch.nn.functional.gelu(hidden.weight @ h[i] + hidden.bias) + head.bias
        torch.testing.assert_close(network(batch)[i], summed + added)
        assert added.abs().max() > 1e-3


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("k", range(3))
def test_with_memory_fusion_a_modality_alone_answers_by_its_own_head(case, k, training):
    _, network, batch = case("memory", missing=0.0)
    network.train(training)
    batch.present[:] = False
    batch.present[:, k] = True
    features = network.encode(batch)
    logits = network(batch)
    assert torch.equal(logits, network.unimodal(features)[k])
    for row in torch.from_numpy(coalitions(3)):
        expected = logits if row[k] else network.log_prior.expand(12, -1)
        torch.testing.assert_close(network.fuse(features, batch.present & row), expected)
        index = int((row * 2 ** torch.arange(3)).sum())
        torch.testing.assert_close(network.every_coalition(features, batch.present)[index], expected)
    logits.square().sum().backward()
    assert not any(p.grad is not None and p.grad.any() for p in network.fusion.parameters())


@pytest.mark.parametrize("fusion", FUSIONS)
def test_only_the_memory_fusion_has_a_memory(case, fusion):
    assert (case(fusion)[1].memory is not None) == (fusion == "memory")


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_hooks_of_the_loop_reach_the_memory_and_change_nothing_else(case, fusion):
    _, network, batch = case(fusion)
    network.train()
    network(batch)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.fusion.follow((1, 2, 0))
    network.fusion.start_epoch(inherit=True)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == ({"fusion.memory.order", "fusion.memory.initial"} if fusion == "memory" else set())


# --- building --------------------------------------------------------------------------------------------------------


def test_encoders_are_chosen_by_kind_or_by_name(make_dataset):
    dataset = make_dataset(3, kinds=KINDS)
    config = configure(dataset, encoders={"b": "mlp"}, fusion="sum", width=16, dropout=0.1, mapping="none")
    assert [(m.name, m.kind, m.shape, m.encoder) for m in config.modalities] == [
        ("a", "vector", (4,), "mlp"),
        ("b", "sequence", (6, 3), "mlp"),
        ("c", "image", (8, 8), "image-cnn"),
    ]
    assert (config.classes, config.fusion, config.width, config.dropout) == ((0, 1, 2), "sum", 16, 0.1)


def test_an_encoder_for_a_modality_that_is_not_there(make_dataset):
    with pytest.raises(InputError, match=r"encoder: toy has no modality 'z', only a, b"):
        configure(make_dataset(), encoders={"z": "mlp"}, fusion="sum", width=16, dropout=0.1, mapping="none")


def test_an_unknown_fusion(make_dataset):
    config = configure(make_dataset(), encoders={}, fusion="sum", width=16, dropout=0.1, mapping="none")
    with pytest.raises(InputError, match=r"fusion must be one of concat, .*, masked-transformer, boosted, got 'gate'"):
        MultimodalNetwork(NetworkConfig(**{**vars(config), "fusion": "gate"}))


def test_statistics_come_from_the_training_split_alone(make_dataset, make_network):
    dataset = make_dataset(2)
    other = make_dataset(2)
    rows = np.concatenate([other.splits["val"], other.splits["test"]])
    for modality in other.modalities:
        modality.values[rows] += 100
    for a, b in zip(make_network(dataset).buffers(), make_network(other).buffers(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["weights.0", "training", "forward", "ü/<b>"])
def test_a_modality_may_be_called_what_a_module_may_not(make_dataset, make_network, name):
    dataset = make_dataset(2, names=[name, "other"])
    assert make_network(dataset)(take(dataset, np.arange(3))).shape == (3, 3)
