# The one that counts.
with import <nixpkgs> { };
mkShell { buildInputs = [ python3 ]; }
