# Made by Ansible; what is changed here is lost.
# For interactive shells.
[ -z "${PS1-}" ] && return

umask 077
shopt -s checkwinsize
PS1='\u@\h:\w\$ '
