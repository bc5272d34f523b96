{ pkgs ? import ./pinned.nix { } }:
pkgs.mkShell { }
