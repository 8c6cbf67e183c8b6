@echo off
rem The name that old manifests call. Everything is in migrate.exe.
C:\usr\local\bin\migrate.exe %*
exit /b %ERRORLEVEL%
