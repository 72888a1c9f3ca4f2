"""Finds near-duplicate images: augmented copies of one photograph, and photographs that overlap.

`features` describes images and proposes pairs; `verification` fits an affine map between two images and
renders it; `search` runs all of it and derives originals and groups. Needs the extra `duplicates` (OpenCV,
threadpoolctl).
"""
