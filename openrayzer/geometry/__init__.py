"""Rotations, poses, intrinsics, rays and camera paths: pure functions of tensors."""
