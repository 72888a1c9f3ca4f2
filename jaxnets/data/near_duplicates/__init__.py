"""Finds near-duplicate images: augmented copies of one photograph, and photographs that overlap.

`features` describes images and proposes pairs; `verification` fits an affine map between two images and
renders it; `grouping` derives originals and groups; `search` runs all of them. Needs the extra `duplicates`
(OpenCV, threadpoolctl).
"""
