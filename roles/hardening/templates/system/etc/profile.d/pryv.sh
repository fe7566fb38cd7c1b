# Made by Ansible; what is changed here is lost.
umask 077
# A forgotten shell ends after ten minutes.
typeset -xr TMOUT=600
