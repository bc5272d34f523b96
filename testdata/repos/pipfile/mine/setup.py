from setuptools import setup

setup(name="mine", version="1.0", py_modules=["mine"])
