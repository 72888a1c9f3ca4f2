"""Finds near-duplicate images: augmented copies of one photograph, and photographs that overlap.

`features` describes an image; `candidates` proposes copies and `visual_words` proposes overlaps;
`verification` fits an affine map between two images; `grouping` derives originals and groups; `tasks` stores
intermediate results; `montage` renders pairs. Needs the extra `duplicates` (OpenCV, threadpoolctl).
"""
