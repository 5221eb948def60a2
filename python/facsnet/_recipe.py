"""Holding images to the recipe by which a model's faces were cut out."""

from __future__ import annotations

import dataclasses
import os
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from facsnet.faces import Alignment, FaceSource, cut_named, find_face, source_name
from facsnet.images import read_image, resize_image

__all__ = ["Cutter", "check_recipe", "make_cutter"]


def check_recipe(what: str, found: Alignment | None, wanted: Alignment | None, owner: str) -> None:
    """Raises ValueError where faces are cut out in another way; warns where another finder said where they are."""
    if found is None or wanted is None:
        if found is not wanted:
            raise ValueError(
                f"{what}: {_told(found)}, those of {owner} {_told(wanted)}: "
                + ("cut them out with align_faces first" if found is None else "use the whole images")
            )
        return
    if dataclasses.replace(found, source=wanted.source) != wanted:
        raise ValueError(f"{what}: faces are cut out by {found}, those of {owner} by {wanted}")
    if found.source != wanted.source:
        warnings.warn(
            f"{what}: {found.source or 'nobody'} said where faces are, of {owner} it was {wanted.source or 'nobody'}: "
            "finders differ, and so may scores",
            stacklevel=4,
        )


def _told(recipe: Alignment | None) -> str:
    return "images are as they came" if recipe is None else f"are cut out by {recipe}"


class Cutter:
    """Finds and cuts out the face of one image after the other, at a network's size.

    Parameters
    ----------
    recipe : Alignment
    faces : FaceSource
    size : int
    """

    def __init__(self, recipe: Alignment, faces: FaceSource, size: int) -> None:
        self.recipe, self.faces, self.size = recipe, faces, size

    def __call__(self, image: Any, row: int) -> npt.NDArray[np.uint8]:
        """Of an array or a path; ValueError where there is no face."""
        name = os.fspath(image) if isinstance(image, (str, os.PathLike)) else None
        pixels = np.asarray(image) if name is None else read_image(name)
        called = f"image {row}" if name is None else name
        face = find_face(self.faces, row, name, pixels)
        if face is None:
            raise ValueError(f"{called}: {source_name(self.faces)} has no face of it")
        cut = cut_named(self.recipe, pixels, face, called)
        return cut if self.recipe.size == self.size else resize_image(cut, self.size, self.size)


def make_cutter(recipe: Alignment | None, faces: FaceSource | None, aligned: bool, size: int) -> Cutter | None:
    """What cuts images out for a model with this recipe; None where they are taken as they are.

    Raises
    ------
    ValueError
        Nothing says that the images follow the recipe, or more than one thing does.
    """
    if faces is not None and aligned:
        raise ValueError("faces and aligned are both given: images are cut out already, or are still to be")
    if recipe is None:
        if faces is not None or aligned:
            given = "faces is given" if faces is not None else "aligned is True"
            raise ValueError(f"{given}, but the model was trained on images as they came")
        return None
    if faces is not None:
        if source_name(faces) != recipe.source:
            check_recipe("faces", recipe.from_source(source_name(faces)), recipe, "the model")
        return Cutter(recipe, faces, size)
    if not aligned:
        raise ValueError(
            f"the model was trained on faces cut out by {recipe}: say where they are with faces=, "
            "or that the images are cut out so already with aligned=True"
        )
    return None
