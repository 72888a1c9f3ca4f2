"""Near-duplicates among images: which are transforms of one photograph, and which photographs overlap.

`features` describes an image; `candidates` finds what may be its copies, `words` what may overlap with
it; `verification` fits a map between two images; `grouping` draws the conclusions; `pieces` keeps what
is done; `montage` shows it. Needs the extra `duplicates` (OpenCV, scikit-learn).
"""
