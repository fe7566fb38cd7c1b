# Made by Ansible; what is changed here is lost.
umask 077
ulimit -c 0
# A forgotten shell ends after ten minutes.
typeset -xr TMOUT=600
