from setuptools import setup

setup(name="there", version="1", py_modules=["there"])
