"""Standard test functions of global optimisation, all to be minimised: name to function and bounds of its arguments."""

import itertools
import math

import numpy


def branin(x, y):
    return (y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6) ** 2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def hartmann(*x):
    a = [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
    p = [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
    distances = (numpy.array(a) * (numpy.array(x) - numpy.array(p) / 10_000) ** 2).sum(1)
    return -float(numpy.array([1, 1.2, 3, 3.2]) @ numpy.exp(-distances))


def ackley(*x):
    square, cosine = sum(v * v for v in x) / len(x), sum(math.cos(2 * math.pi * v) for v in x) / len(x)
    return 20 + math.e - 20 * math.exp(-0.2 * math.sqrt(square)) - math.exp(cosine)


def rosenbrock(*x):
    return sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(x))


def levy(*x):
    w = [1 + (v - 1) / 4 for v in x]
    middle = sum((v - 1) ** 2 * (1 + 10 * math.sin(math.pi * v + 1) ** 2) for v in w[:-1])
    return math.sin(math.pi * w[0]) ** 2 + middle + (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)


FUNCTIONS = {
    "branin": (branin, [(-5, 10), (0, 15)]),
    "hartmann": (hartmann, [(0, 1)] * 6),
    "ackley": (ackley, [(-32.768, 32.768)] * 5),
    "rosenbrock": (rosenbrock, [(-5, 10)] * 4),
    "levy": (levy, [(-10, 10)] * 4),
}


def ranges(bounds):
    """ParameterRanges of arguments x0, x1 …"""
    return {
        "ContinuousParameterRanges": [
            {"Name": f"x{number}", "MinValue": str(low), "MaxValue": str(high), "ScalingType": "Linear"}
            for number, (low, high) in enumerate(bounds)
        ]
    }


def value(function, parameters):
    """A function's value at hyperparameters x0, x1 …"""
    return function(*(float(parameters[f"x{number}"]) for number in range(len(parameters))))
