from setuptools import find_packages, setup

setup(
    packages=find_packages(include=["flask_chunked", "flask_chunked.*"]),
    include_package_data=True,
)
