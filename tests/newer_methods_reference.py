"""Rivals since 2025, spelled out slowly, sample by sample: what the fast updates are tested against.

Each reference is made with the method's parameters and called with a network and a batch. It yields the loss of each
update in turn, its gradients in the network, which is moved in between.
"""

from __future__ import annotations

import math

import torch
from methods_reference import backward_into_the_fusion, fused_loss, mean, nll, own_loss, prediction, samples_with

from equilib_torch.methods import METHODS, Plan, Setting


def begin(name, network, **parameters):
    """The update of a method that starts on this network; no method here rehearses."""
    return METHODS[name].begin(Setting(network, None), parameters)


def plan_at(n, progress):
    return Plan(tuple(range(n)), (1,) * n, (1.0,) * n, 1, progress)


# --- masked transformer ----------------------------------------------------------------------------------------------


def normalise(x, norm):
    centred = x - x.mean()
    return centred / (centred.square().mean() + norm.eps).sqrt() * norm.weight + norm.bias


def masked_transformer(fusion, features, here):
    """Logits of one sample, (n_classes,), from the features (d_m,) of its modalities `here`, as if no others were."""
    tokens = [fusion.tokens[m].weight @ features[m] + fusion.tokens[m].bias for m in here]
    if not tokens:
        return fusion.head.bias
    layer, attention = fusion.layer, fusion.layer.self_attn
    projected = [attention.in_proj_weight @ normalise(x, layer.norm1) + attention.in_proj_bias for x in tokens]
    queries, keys, values = zip(*(x.chunk(3) for x in projected), strict=True)
    d = len(tokens[0]) // attention.num_heads
    states = []
    for x, query in zip(tokens, queries, strict=True):
        parts = []
        for start in range(0, len(x), d):
            part = slice(start, start + d)
            scores = torch.stack([(query[part] @ key[part] / math.sqrt(d)).exp() for key in keys])
            parts.append(mean([s * v[part] for s, v in zip(scores, values, strict=True)]) * len(values) / scores.sum())
        x = x + attention.out_proj.weight @ torch.cat(parts) + attention.out_proj.bias
        hidden = torch.nn.functional.gelu(layer.linear1.weight @ normalise(x, layer.norm2) + layer.linear1.bias)
        states.append(normalise(x + layer.linear2.weight @ hidden + layer.linear2.bias, fusion.norm))
    return fusion.head.weight @ mean(states) + fusion.head.bias


# --- methods ---------------------------------------------------------------------------------------------------------


def own_losses(network, batch):
    """Sum of the cross-entropies of every modality's own head."""
    losses = [own_loss(network, batch, m) for m in range(len(network.encoders))]
    return sum(loss for loss in losses if loss is not None)


class DGL:
    def __init__(self, alpha):
        self.alpha = alpha

    def __call__(self, network, batch, progress):
        with torch.no_grad():
            fused = fused_loss(network, network.encode(batch), batch).item()
        loss = self.alpha * own_losses(network, batch)
        loss.backward()
        backward_into_the_fusion(network, batch)
        yield loss.item() + fused


class PretrainedLateFusion:
    def __init__(self, pretraining, finetune):
        self.share, self.finetune = pretraining, finetune

    def __call__(self, network, batch, progress):
        if progress >= self.share and self.finetune:
            loss = fused_loss(network, network.encode(batch), batch)
            loss.backward()
            yield loss.item()
        elif progress >= self.share and any(True for _ in network.fusion.parameters()):
            yield backward_into_the_fusion(network, batch)
        else:
            loss = own_losses(network, batch)
            loss.backward()
            yield loss.item()


class AUG:
    """`n_learners` of each modality are as the test grew them; the fusion is `boosted`."""

    def __call__(self, network, batch, progress):
        before = network.encode(batch)  # encoders of one modality do not feel the others' updates
        for m in range(len(network.encoders)):
            rows = samples_with(batch, m)
            if not rows:
                continue
            terms, fusion = [], network.fusion
            z = network.encode_one(batch, m)
            for i in rows:
                y, f = batch.labels[i], []
                for t in range(int(fusion.n_learners[m])):
                    a = fusion.hidden[m][t]
                    hidden = (a.weight @ z[i] + a.bias).clamp(min=0)
                    f.append(fusion.out.weight @ hidden + fusion.out.bias)
                terms.append(nll(sum(f), y))
                if len(f) > 1:
                    earlier = sum(f[:-1])
                    target = earlier.softmax(0)[y].item()
                    terms[-1] = terms[-1] + nll(earlier, y) + nll(f[-1], y) - target * nll(f[-1], y) / 2
                head = network.heads[m]
                terms[-1] = terms[-1] + nll(head.weight @ before[m][i].detach() + head.bias, y)
            loss = mean(terms)
            loss.backward()
            yield loss.item()


class DataRemixing:
    def __init__(self, warmup):
        self.warmup = warmup

    def __call__(self, network, batch, progress):
        n = len(network.encoders)
        if progress < self.warmup:
            loss = fused_loss(network, network.encode(batch), batch)
            loss.backward()
            yield loss.item()
            return
        with torch.no_grad():
            features = network.encode(batch)
            given = {
                i: min((self.sureness(network, features, batch, i, m), m) for m in range(n) if batch.present[i, m])[1]
                for i in range(len(batch.labels))
            }
        for m in range(n):
            rows = [i for i in given if given[i] == m]
            if rows:
                features = network.encode(batch)
                loss = mean([nll(prediction(network, features, batch, i, [m]), batch.labels[i]) for i in rows])
                loss.backward()
                yield loss.item()

    def sureness(self, network, features, batch, i, m):
        """KL divergence of the prediction of m alone from the uniform distribution."""
        p = prediction(network, features, batch, i, [m]).softmax(0).tolist()
        return sum(x * math.log(x * len(p)) for x in p)
