"""Makes ``twistd mqsvc`` known; imports nothing of the program itself."""

from twisted.application.service import ServiceMaker

mqsvc = ServiceMaker("mqsvc", "mqsvc.tap", "A multi-tenant messaging service.", "mqsvc")
