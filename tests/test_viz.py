"""Figures: roles stay apart for every eye, maps show what they are given."""

import itertools

import matplotlib as mpl
import pytest
import torch

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.colors import to_rgb

from minitransformer import scaled_dot_product_attention, viz
from minitransformer.attention import SelfAttention
from minitransformer.errors import UserError

ROLES = ["QUERY", "KEY", "VALUE", "SCORES", "WEIGHTS", "OUTPUT"]

# How an eye without one kind of cone sees linear RGB (Machado et al., 2009).
EYES = {
    "usual": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = torch.tensor(
    [
        [0.4124, 0.3576, 0.1805],
        [0.2126, 0.7152, 0.0722],
        [0.0193, 0.1192, 0.9505],
    ]
)


def linear_rgb(colour):
    rgb = torch.tensor(to_rgb(colour))
    return torch.where(
        rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4
    )


def lab(rgb):
    """CIE L*a*b*, in which distance is roughly what the eye sees."""
    xyz = TO_XYZ @ rgb.clamp(0, 1) / torch.tensor([0.9505, 1.0, 1.089])
    x, y, z = torch.where(
        xyz > 0.008856, xyz ** (1 / 3), 7.787 * xyz + 16 / 116
    )
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def nearest_pair(colours):
    """The least distance between two colours, for any of the eyes."""
    return min(
        (lab(eye @ linear_rgb(one)) - lab(eye @ linear_rgb(other))).norm()
        for eye in map(torch.tensor, EYES.values())
        for one, other in itertools.combinations(colours, 2)
    )


@pytest.fixture(autouse=True)
def _fresh_figures():
    yield
    plt.close("all")


@pytest.fixture
def weights():
    return torch.tensor([[0.25, 0.75, 0.0], [0.5, 0.125, 0.375]])


def numbers_in(ax):
    return [text.get_text() for text in ax.texts]


# By hand ---


def test_a_map_shows_its_numbers_row_by_row(weights):
    ax = viz.plot_attention(weights, ["a", "b"], ["c", "d", "e"], title="t")
    assert numbers_in(ax) == ["0.25", "0.75", "0.00", "0.50", "0.12", "0.38"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["c", "d", "e"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("key", "query")
    assert ax.get_title() == "t"


def test_weights_are_drawn_on_the_scale_from_0_to_1(weights):
    ax = viz.plot_attention(weights, ["a", "b"], ["c", "d", "e"])
    assert ax.images[0].get_clim() == (0, 1)
    torch.testing.assert_close(
        torch.tensor(ax.images[0].get_array().data), weights
    )


def test_numbers_contrast_with_their_cell(weights):
    ax = viz.plot_attention(weights, ["a", "b"], ["c", "d", "e"])
    assert [text.get_color() for text in ax.texts] == [
        "black",
        "white",
        *["black"] * 4,
    ]


def test_negative_numbers_are_lighter_than_zero():
    matrix = torch.tensor([[-2.0, 5.0]])
    ax = viz.plot_matrix(matrix, ["a"], ["b", "c"], viz.SCORES, digits=0)
    assert ax.images[0].get_clim() == (-2, 5)
    assert numbers_in(ax) == ["-2", "5"]


# Properties ---


def test_roles_stay_apart_for_every_eye():
    assert nearest_pair([getattr(viz, role) for role in ROLES]) > 25


def test_the_check_of_the_roles_has_teeth():
    # A red and a green that a deuteranope confuses.
    assert nearest_pair(["#D55E00", "#B8860B"]) < 5


@pytest.mark.parametrize("role", ROLES)
def test_a_role_shows_on_white(role):
    luminance = (TO_XYZ @ linear_rgb(getattr(viz, role)))[1]
    assert 1.05 / (luminance + 0.05) >= 3  # as WCAG asks of graphics


def test_the_style_gives_the_same_pixels_whatever_was_set_before(weights):
    pictures = []
    for size in (7, 23):
        mpl.rcParams["font.size"] = mpl.rcParams["xtick.labelsize"] = size
        viz.use_book_style()
        ax = viz.plot_attention(weights, ["a", "b"], ["c", "d", "e"])
        ax.figure.canvas.draw()
        pictures.append(bytes(ax.figure.canvas.buffer_rgba()))
    assert pictures[0] == pictures[1]


def test_the_style_keeps_the_backend():
    viz.use_book_style()
    assert mpl.get_backend().lower() == "agg"


def test_figures_stand_on_a_white_card(weights):
    viz.use_book_style()
    ax = viz.plot_attention(weights, ["a", "b"], ["c", "d", "e"])
    assert ax.figure.get_facecolor() == (1, 1, 1, 1)
    assert ax.get_facecolor() == (1, 1, 1, 1)


def test_it_draws_where_it_is_told(weights):
    _, axes = plt.subplots(1, 2)
    ax = viz.plot_attention(weights, ["a", "b"], ["c", "d", "e"], axes[1])
    assert ax is axes[1]
    assert not axes[0].images


def test_weights_may_need_gradients(weights):
    weights.requires_grad_()
    ax = viz.plot_attention(weights, ["a", "b"], ["c", "d", "e"])
    assert len(ax.images) == 1


# The source of the library ---


def test_source_is_the_code_and_nothing_else():
    shown = viz.show_source(scaled_dot_product_attention)
    assert repr(shown).startswith("def scaled_dot_product_attention(")
    assert repr(shown).endswith("@ value, weights")
    assert shown._repr_markdown_() == f"```python\n{shown!r}\n```"


def test_the_source_of_a_method_starts_at_the_margin():
    shown = viz.show_source(SelfAttention.forward)
    assert repr(shown).startswith("def forward(")


# Edges ---


def test_a_large_map_has_a_colour_bar_and_no_numbers():
    labels = [str(i) for i in range(11)]
    ax = viz.plot_attention(torch.full((11, 11), 1 / 11), labels, labels)
    assert numbers_in(ax) == []
    assert len(ax.figure.axes) == 2


def test_a_map_of_zeros_is_white():
    ax = viz.plot_matrix(torch.zeros(1, 2), ["a"], ["b", "c"], viz.OUTPUT)
    image = ax.images[0]
    assert (image.to_rgba(image.get_array())[..., :3] == 1).all()


def test_several_heads_are_refused():
    with pytest.raises(UserError, match=r"weights\[0, 0\]"):
        viz.plot_attention(torch.zeros(1, 2, 3, 5), ["a"] * 3, ["b"] * 5)


def test_labels_must_fit(weights):
    with pytest.raises(UserError, match="not 3 and 2"):
        viz.plot_attention(weights, ["a", "b", "c"], ["d", "e"])


@pytest.mark.parametrize("thing", [3, len])
def test_things_without_source_are_refused(thing):
    with pytest.raises(UserError, match="no Python source"):
        viz.show_source(thing)
