"""Disk images as bytes: the one gate they pass (`formats`), qcow2 headers (`qcow2`), and the confined converter
(`convert`).
"""
