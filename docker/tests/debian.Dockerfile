# Debian 12, made by mmdebstrap, with an interpreter of the machine that made it.
FROM scratch
ADD debian.tar /
COPY python /opt/python
RUN echo /opt/python/lib > /etc/ld.so.conf.d/python.conf && ldconfig
CMD ["bash"]
