from setuptools import setup

setup(name="old-style", version="1.0", py_modules=["old_style"], install_requires=open("needs.txt").read().split())
