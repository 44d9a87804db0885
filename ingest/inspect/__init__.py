"""Looks at a folder and drafts the spec: which files are images, which labels, how they pair, what they hold."""
