"""Training methods, spelled out slowly, sample by sample: what the fast updates are tested against.

Each reference is made with the number of modalities and the method's parameters, called with every batch, leaves the
gradients it expects in the network, and returns the loss.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from itertools import permutations
from math import exp, tanh

import numpy as np
import torch

from equilib_torch.data.batches import take
from equilib_torch.methods import METHODS, Losses, Plan, Setting

ROWS = [(0, 2), (2, 7), (7, 12)]  # of consecutive batches; the first has nobody of the third class


def make_case(make_dataset, make_network, fusion, n=3, missing=0.0, *, gone=False, rows=ROWS, mapping="feature"):
    """A network, three batches, and a step; nobody in the second batch has the last modality, if it is `gone`."""
    dataset = make_dataset(n, kinds=("vector", "sequence", "image"), missing=missing)
    network = make_network(dataset, fusion, mapping=mapping)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter *= 0 if name.endswith("bias") else 2  # a new network finds all alike: let it have opinions
        network.log_prior += torch.tensor([0.0, 1.0, 2.0])  # not what a method may take for a modality's part
    batches = [take(dataset, np.arange(*bounds)) for bounds in rows]
    if gone:
        batches[1].present[:, -1] = False
        batches[1].present[:, 0] = True
    return network, batches, Recorder(network)


def begin(name, network, rehearse=None, **parameters):
    """The update of a method that starts on this network; rehearsals lead nowhere unless told."""
    losses = Losses(*torch.ones(2, len(network.encoders) + 1, dtype=torch.float64))
    return METHODS[name].begin(Setting(network, rehearse or (lambda loss: losses)), parameters)


def replace_start(patch, name, start):
    """Let a method start otherwise, until the patch (pytest's monkeypatch) is undone."""
    patch.setitem(METHODS._entries, name, replace(METHODS[name], start=start))


def plan_of(n, epoch=1):
    return Plan(tuple(range(n)), (1,) * n, (1.0,) * n, epoch)


class Recorder:
    """A step that goes backward, notes loss and gradients as they are moved along, and moves by plain descent.

    `touched` are the encoders that received any gradient, be it 0: an optimiser would decay their weights.
    """

    def __init__(self, network, lr=0.1):
        self.network, self.lr, self.losses, self.gradients, self.touched = network, lr, [], [], []

    def scale(self, loss):
        return loss

    def __call__(self, loss, adjust=None):
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        if adjust is not None:
            adjust()
        self.losses.append(loss.item())
        self.gradients.append(gradients_of(self.network))
        encoders = enumerate(self.network.encoders)
        self.touched.append({k for k, encoder in encoders if any(p.grad is not None for p in encoder.parameters())})
        descend(self.network, self.lr)


def descend(network, lr):
    """Plain gradient descent."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter -= lr * parameter.grad


def gradients_of(network):
    """By name; 0 for what received none."""
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in network.named_parameters()}


def moved_parts(gradients):
    """Parts of the network with a gradient other than 0, such as "encoders.0"."""
    return {".".join(name.split(".")[:2]) for name, gradient in gradients.items() if gradient.any()}


def changed_parts(gradients, others):
    """Parts of the network whose gradients are not alike."""
    return moved_parts({name: ~torch.isclose(g, others[name], rtol=1e-4, atol=1e-6) for name, g in gradients.items()})


def calls_of(network):
    """Which encoders run from now on, in order."""
    calls = []
    for k, encoder in enumerate(network.encoders):
        encoder.register_forward_hook(lambda *_, k=k: calls.append(k))
    return calls


def coalitions_given(network):
    """What `network.fuse` is told to be present from now on, call after call."""
    given, fuse = [], network.fuse

    def noting(features, present, *rest):
        given.append(present)
        return fuse(features, present, *rest)

    network.fuse = noting
    return given


def assert_same(actual, expected, **tolerance):
    assert actual.keys() == expected.keys()
    for name in actual:
        torch.testing.assert_close(actual[name], expected[name], **{"atol": 1e-5, "rtol": 1e-3, **tolerance}, msg=name)


# --- definitions -----------------------------------------------------------------------------------------------------


def nll(logits, label):
    """Cross-entropy of one sample."""
    return -(logits[label] - logits.exp().sum().log())


def mean(terms):
    return sum(terms) / len(terms)


def samples_with(batch, m):
    return [i for i in range(len(batch.labels)) if batch.present[i, m]]


def prediction(network, features, batch, i, members):
    """Logits of sample i from those of the members that it has, as if it were alone in the batch."""
    here = [m in members and bool(batch.present[i, m]) for m in range(len(features))]
    return network.fuse([z[i : i + 1] for z in features], torch.tensor([here]))[0]


def fused_loss(network, features, batch):
    everybody = range(len(features))
    terms = [nll(prediction(network, features, batch, i, everybody), y) for i, y in enumerate(batch.labels)]
    return mean(terms)


# --- methods ---------------------------------------------------------------------------------------------------------


class OGMGE:
    def __init__(self, n, alpha):
        self.n, self.alpha = n, alpha

    def __call__(self, network, batch):
        features = network.encode(batch)
        s = {}
        for m in range(self.n):
            rows = samples_with(batch, m)
            if rows:
                own = [prediction(network, features, batch, i, [m]).softmax(0)[batch.labels[i]] for i in rows]
                s[m] = mean(own).item()
        loss = fused_loss(network, features, batch)
        loss.backward()
        for m, encoder in enumerate(network.encoders):
            others = [s[j] for j in s if j != m]
            k = 1.0
            if m in s and others and s[m] > mean(others):
                k = 1 - tanh(self.alpha * s[m] / mean(others))
            for parameter in encoder.parameters():
                if (g := parameter.grad) is None:  # nobody in the batch needs this encoder
                    continue
                spread = ((g - g.mean()) ** 2).sum() / max(g.numel() - 1, 1)
                parameter.grad = k * g + (spread.sqrt() * torch.randn_like(g) if g.numel() > 1 else 0)
        return loss.item()


class AGM:
    def __init__(self, n, alpha):
        self.n, self.alpha, self.history = n, alpha, [[] for _ in range(n)]

    def attributions(self, network, features, batch, i):
        """φ_m of sample i by definition: what m adds, on average over all orders of arrival."""
        values = {frozenset(): torch.zeros(len(network.log_prior))}
        phi = [torch.zeros(len(network.log_prior)) for _ in range(self.n)]
        orders = list(permutations(range(self.n)))
        for order in orders:
            so_far = frozenset()
            for m in order:
                joined = so_far | {m} if batch.present[i, m] else so_far
                if joined not in values:
                    values[joined] = prediction(network, features, batch, i, joined)
                phi[m] = phi[m] + (values[joined] - values[so_far]) / len(orders)
                so_far = joined
        return phi

    def __call__(self, network, batch):
        features = network.encode(batch)
        phi = [self.attributions(network, features, batch, i) for i in range(len(batch.labels))]
        s = {}
        for m in range(self.n):
            rows = samples_with(batch, m)
            if rows:
                s[m] = mean([nll(phi[i][m], batch.labels[i]) for i in rows]).item()
        kappa = [1.0] * self.n
        for m in s:
            others = [s[j] for j in s if j != m]
            if others:
                r = exp(mean(others) - s[m])
                self.history[m].append(r)
                kappa[m] = exp(self.alpha * min(mean(self.history[m]) - r, 10))
        # The chain rule, link by link: ∂L/∂θ = Σ_m κ_m Σ_i ∂L/∂F_i ∂φ_mi/∂θ with F_i = Σ_m φ_mi.
        sums = [sum(row).detach().requires_grad_() for row in phi]
        loss = mean([nll(row, y) for row, y in zip(sums, batch.labels, strict=True)])
        loss.backward()
        links = [kappa[m] * (row.grad * phi[i][m]).sum() for i, row in enumerate(sums) for m in range(self.n)]
        sum(links).backward()
        return loss.item()


class PMR:
    def __init__(self, n, alpha):
        self.n, self.alpha, self.prototypes = n, alpha, [{} for _ in range(n)]

    def __call__(self, network, batch):
        features = network.encode(batch)
        loss = fused_loss(network, features, batch)
        s, own = {}, {}
        for m, known in enumerate(self.prototypes):
            rows = samples_with(batch, m)
            for y in {int(batch.labels[i]) for i in rows}:
                new = mean([features[m][i].detach() for i in rows if batch.labels[i] == y])
                known[y] = 0.9 * known[y] + 0.1 * new if y in known else new
            right = []
            for i in rows:
                exponents = {y: -distance(features[m][i], c) for y, c in known.items()}
                total = sum(x.exp() for x in exponents.values())
                right.append(exponents[int(batch.labels[i])].exp() / total)
            if rows:
                s[m], own[m] = mean(right).item(), mean([-p.log() for p in right])
        for m in s:
            beta = min(max(max(s.values()) / s[m] - 1, 0), 1)
            loss = loss + self.alpha * beta * own[m]
        loss.backward()
        return loss.item()


def distance(a, b):
    """Euclidean; its gradient is 0 where they meet."""
    square = ((a - b) ** 2).sum()
    return square.sqrt() if square > 0 else square


# --- methods with more than one update per batch, or losses of every head --------------------------------------------
# These yield the loss of each update in turn, its gradients in the network, which is moved in between.


def own_loss(network, batch, m):
    """Cross-entropy of modality m's own head over the samples that have it; None if none has."""
    logits = network.heads[m](network.encode_one(batch, m))
    rows = samples_with(batch, m)
    return mean([nll(logits[i], batch.labels[i]) for i in rows]) if rows else None


def backward_into_the_fusion(network, batch):
    """The fused loss, whose gradient reaches the fusion alone; None if that has no weights."""
    parameters = list(network.fusion.parameters())
    if not parameters:
        return None
    loss = fused_loss(network, network.encode(batch), batch)
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    return loss.item()


class CoalitionTraining:
    """Method `equilib`; `drawn` says which modalities are in the random coalition of each sample."""

    def __init__(self, alpha):
        self.alpha = alpha

    def __call__(self, network, batch, plan, drawn):
        first = network.encode(batch)
        loss = fused_loss(network, first, batch)
        if len(first) > 2:
            loss = loss + fused_loss(network, first, batch._replace(present=drawn))
        loss = loss + sum(self.own(network, first, batch, plan, m) for m in range(len(first)))
        loss.backward()
        yield loss.item()
        for k in plan.order:
            for _ in range(1, plan.updates[k]):
                if samples_with(batch, k):
                    seen = [network.encode_one(batch, m) if m == k else first[m].detach() for m in range(len(first))]
                    loss = fused_loss(network, seen, batch) + self.own(network, seen, batch, plan, k)
                    loss.backward()
                    yield loss.item()

    def own(self, network, features, batch, plan, m):
        """λ_m [CE(l_m) + α CE(l_m, p(N))]."""
        terms = []
        for i in samples_with(batch, m):
            logits = network.heads[m](features[m][i])
            target = prediction(network, features, batch, i, range(len(features))).softmax(0).tolist()
            learned = sum(p * nll(logits, y) for y, p in enumerate(target))
            terms.append(nll(logits, batch.labels[i]) + self.alpha * learned)
        return plan.sufficiency[m] * mean(terms) if terms else 0


class GBlending:
    def __init__(self, n, rehearse, every):
        self.n, self.every, self.rehearse, self.w = n, every, rehearse, [1 / (n + 1)] * (n + 1)

    def __call__(self, network, batch, epoch):
        if epoch % self.every == 1:
            before, after = self.rehearse(None), [self.rehearse(k) for k in range(self.n + 1)]
            w = []
            for k, losses in enumerate(after):
                gain = before.val[k] - losses.val[k]
                overfitting = (losses.val[k] - losses.train[k]) - (before.val[k] - before.train[k])
                w.append(max(gain, 0) / max(overfitting, 0.05) ** 2)
            if sum(w) > 0:
                self.w = [x / sum(w) for x in w]
        loss = self.w[self.n] * fused_loss(network, network.encode(batch), batch)
        for m in range(self.n):
            loss = loss + self.w[m] * (own_loss(network, batch, m) or 0)
        loss.backward()
        yield loss.item()


class MLA:
    def __init__(self, n, rehearse, alpha):
        self.n, self.alpha, self.means = n, alpha, []

    def __call__(self, network, batch, epoch):
        fusion_sees = deepcopy(network)  # features of the batch's beginning, heads of its end
        for m in range(self.n):
            rows = samples_with(batch, m)
            if rows:
                z = network.encode_one(batch, m)
                self.means.append(mean([z[i] for i in rows]).detach().double())
                loss = own_loss(network, batch, m)
                loss.backward()
                inverse = torch.eye(z.shape[1]).double() + sum(torch.outer(r, r) for r in self.means) / self.alpha
                head = network.heads[m].weight
                head.grad = (head.grad.double() @ inverse.inverse()).float()
                yield loss.item()
        fusion_sees.heads, fusion_sees.fusion = network.heads, network.fusion
        loss = backward_into_the_fusion(fusion_sees, batch)
        if loss is not None:
            yield loss


class ReconBoost:
    def __init__(self, n, rehearse, agreement):
        self.n, self.agreement = n, agreement

    def __call__(self, network, batch, epoch):
        turns = [*range(self.n), "all"]
        m = turns[(epoch - 1) % len(turns)]
        if m == "all":
            loss = fused_loss(network, network.encode(batch), batch)
            loss.backward()
            yield loss.item()
            return
        with torch.no_grad():
            logits = [network.heads[j](z) for j, z in enumerate(network.encode(batch))]
        mine, terms = network.heads[m](network.encode_one(batch, m)), []
        for i in samples_with(batch, m):
            y = batch.labels[i]
            others = [logits[j][i] for j in range(self.n) if j != m and batch.present[i, j]]
            q = sum(others).softmax(0)[y] if others else 0.0
            terms.append((5 - 5 * self.agreement * q) / 5 * nll(mine[i], y))
        total = backward_into_the_fusion(network, batch) or 0.0
        if terms:
            loss = mean(terms)
            loss.backward()
            total += loss.item()
        if terms or any(True for _ in network.fusion.parameters()):
            yield total


class MMPareto:
    def __init__(self, n, rehearse, gamma):
        self.n, self.gamma = n, gamma

    def __call__(self, network, batch, epoch):
        fused = fused_loss(network, network.encode(batch), batch)
        fused.backward()
        g0 = self.vectors(network)
        network.zero_grad()
        own = [own_loss(network, batch, m) for m in range(self.n)]
        sum(loss for loss in own if loss is not None).backward()
        g1 = self.vectors(network)
        network.zero_grad()
        loss = fused_loss(network, network.encode(batch), batch)
        loss = loss + sum(own_loss(network, batch, m) for m in range(self.n) if own[m] is not None)
        loss.backward()
        for m, encoder in enumerate(network.encoders):
            a = 0.5 if g0[m] @ g1[m] >= 0 else self.shortest(g0[m], g1[m])
            h = a * g0[m] + (1 - a) * g1[m]
            h = h / h.norm().clamp(min=1e-30) * (g0[m] + g1[m]).norm() * self.gamma
            parameters = list(encoder.parameters())
            for parameter, piece in zip(parameters, h.float().split([p.numel() for p in parameters]), strict=True):
                parameter.grad = piece.view_as(parameter)
        yield loss.item()

    def vectors(self, network):
        """Each encoder's gradient as one vector."""
        none = torch.zeros
        return [
            torch.cat([none(p.numel()) if p.grad is None else p.grad.flatten() for p in e.parameters()]).double()
            for e in network.encoders
        ]

    def shortest(self, a, b):
        """x in [0, 1] with the shortest x a + (1 - x) b, by thirds."""
        low, high = 0.0, 1.0
        for _ in range(100):
            third = (high - low) / 3
            lengths = [(x * a + (1 - x) * b).norm() for x in (low + third, high - third)]
            low, high = (low, high - third) if lengths[0] < lengths[1] else (low + third, high)
        return low
