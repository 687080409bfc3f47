"""Training methods, spelled out slowly, sample by sample: what the fast updates are tested against.

Each reference is made with the number of modalities and the strength, called with every batch, leaves the gradients it
expects in the network, and returns the loss.
"""

from itertools import permutations
from math import exp, tanh

import numpy as np
import torch

from equilib_torch.batches import take
from equilib_torch.methods import METHODS, Plan, Setting

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


def begin(name, network, strength=None, rehearse=None):
    """The update of a method that starts on this network."""
    method = METHODS[name]
    return method.start(Setting(network, method.strength if strength is None else strength, rehearse))


def plan_of(n, epoch=1):
    return Plan(tuple(range(n)), (1,) * n, (1.0,) * n, epoch)


class Recorder:
    """A step that goes backward, notes loss and gradients as they are moved along, and moves by plain descent."""

    def __init__(self, network, lr=0.1):
        self.network, self.lr, self.losses, self.gradients = network, lr, [], []

    def __call__(self, loss, adjust=None):
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        if adjust is not None:
            adjust()
        self.losses.append(loss.item())
        self.gradients.append(gradients_of(self.network))
        with torch.no_grad():
            for parameter in self.network.parameters():
                if parameter.grad is not None:
                    parameter -= self.lr * parameter.grad


def gradients_of(network):
    """By name; 0 for what received none."""
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in network.named_parameters()}


def assert_same(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], **{"atol": 1e-5, "rtol": 1e-3, **tolerance}, msg=name)


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
    def __init__(self, n, strength):
        self.n, self.alpha = n, strength

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
                g = parameter.grad
                spread = ((g - g.mean()) ** 2).sum() / max(g.numel() - 1, 1)
                parameter.grad = k * g + (spread.sqrt() * torch.randn_like(g) if g.numel() > 1 else 0)
        return loss.item()


class AGM:
    def __init__(self, n, strength):
        self.n, self.alpha, self.history = n, strength, [[] for _ in range(n)]

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
    def __init__(self, n, strength):
        self.n, self.alpha, self.prototypes = n, strength, [{} for _ in range(n)]

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
