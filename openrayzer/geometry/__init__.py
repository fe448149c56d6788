"""Rotations, poses, intrinsics and rays: pure functions on tensors."""
