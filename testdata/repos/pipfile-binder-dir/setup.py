from setuptools import setup
setup(name='mine', version='1', py_modules=['mine'])
