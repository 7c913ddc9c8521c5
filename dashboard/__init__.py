"""What people look at in a browser: charts, and a report as one HTML file.

The folder is imported as semfreeze_dashboard; inside it imports are relative, as tools know it by the folder's name.
"""
