package sipmessagepb

// Status is the status code of a response of type t (RFC 3261 21). SUCCESS, REDIRECTION, CLIENT_ERROR, SERVER_ERROR and
// GLOBAL_ERROR stand for a class, whose x00 code is what a receiver takes an unknown one for (RFC 3261 8.1.3.2);
// SIPMessage.status_code, where it is set, is the code to go by. 0 for UNKNOWN and for values that do not exist.
func Status(t ResponseType) int {
	switch t {
	case ResponseType_TRYING:
		return 100
	case ResponseType_RINGING:
		return 180
	case ResponseType_CALL_IS_BEING_FORWARDED:
		return 181
	case ResponseType_QUEUED:
		return 182
	case ResponseType_SESSION_PROGRESS:
		return 183
	case ResponseType_OK:
		return 200
	case ResponseType_ACCEPTED:
		return 202
	case ResponseType_MULTIPLE_CHOICES:
		return 300
	case ResponseType_MOVED_PERMANENTLY:
		return 301
	case ResponseType_MOVED_TEMPORARILY:
		return 302
	case ResponseType_USE_PROXY:
		return 305
	case ResponseType_ALTERNATIVE_SERVICE:
		return 380
	case ResponseType_BAD_REQUEST:
		return 400
	case ResponseType_UNAUTHORIZED:
		return 401
	case ResponseType_PAYMENT_REQUIRED:
		return 402
	case ResponseType_FORBIDDEN:
		return 403
	case ResponseType_NOT_FOUND:
		return 404
	case ResponseType_METHOD_NOT_ALLOWED:
		return 405
	case ResponseType_NOT_ACCEPTABLE:
		return 406
	case ResponseType_PROXY_AUTHENTICATION_REQUIRED:
		return 407
	case ResponseType_REQUEST_TIMEOUT:
		return 408
	case ResponseType_GONE:
		return 410
	case ResponseType_REQUEST_ENTITY_TOO_LARGE:
		return 413
	case ResponseType_REQUEST_URI_TOO_LONG:
		return 414
	case ResponseType_UNSUPPORTED_MEDIA_TYPE:
		return 415
	case ResponseType_UNSUPPORTED_URI_SCHEME:
		return 416
	case ResponseType_BAD_EXTENSION:
		return 420
	case ResponseType_EXTENSION_REQUIRED:
		return 421
	case ResponseType_INTERVAL_TOO_BRIEF:
		return 423
	case ResponseType_TEMPORARILY_UNAVAILABLE:
		return 480
	case ResponseType_CALL_OR_TRANSACTION_DOES_NOT_EXIST:
		return 481
	case ResponseType_LOOP_DETECTED:
		return 482
	case ResponseType_TOO_MANY_HOPS:
		return 483
	case ResponseType_ADDRESS_INCOMPLETE:
		return 484
	case ResponseType_AMBIGUOUS:
		return 485
	case ResponseType_BUSY_HERE:
		return 486
	case ResponseType_REQUEST_TERMINATED:
		return 487
	case ResponseType_NOT_ACCEPTABLE_HERE:
		return 488
	case ResponseType_BAD_EVENT:
		return 489
	case ResponseType_REQUEST_PENDING:
		return 491
	case ResponseType_UNDECIPHERABLE:
		return 493
	case ResponseType_SERVER_INTERNAL_ERROR:
		return 500
	case ResponseType_NOT_IMPLEMENTED:
		return 501
	case ResponseType_BAD_GATEWAY:
		return 502
	case ResponseType_SERVICE_UNAVAILABLE:
		return 503
	case ResponseType_SERVER_TIMEOUT:
		return 504
	case ResponseType_VERSION_NOT_SUPPORTED:
		return 505
	case ResponseType_MESSAGE_TOO_LARGE:
		return 513
	case ResponseType_BUSY_EVERYWHERE:
		return 600
	case ResponseType_DECLINE:
		return 603
	case ResponseType_DOES_NOT_EXIST_ANYWHERE:
		return 604
	case ResponseType_SESSION_NOT_ACCEPTABLE:
		return 606
	case ResponseType_SUCCESS:
		return 200
	case ResponseType_REDIRECTION:
		return 300
	case ResponseType_CLIENT_ERROR:
		return 400
	case ResponseType_SERVER_ERROR:
		return 500
	case ResponseType_GLOBAL_ERROR:
		return 600
	default:
		return 0
	}
}

// TypeOf is the response type of a status code: its name, else the marker of its class, with SESSION_PROGRESS for the
// provisional class, as a receiver takes an unknown 1xx for a 183 (RFC 3261 8.1.3.2). UNKNOWN for what is no status
// code. Whoever sets a response_type sets SIPMessage.status_code beside it.
func TypeOf(code int) ResponseType {
	switch code {
	case 100:
		return ResponseType_TRYING
	case 180:
		return ResponseType_RINGING
	case 181:
		return ResponseType_CALL_IS_BEING_FORWARDED
	case 182:
		return ResponseType_QUEUED
	case 183:
		return ResponseType_SESSION_PROGRESS
	case 200:
		return ResponseType_OK
	case 202:
		return ResponseType_ACCEPTED
	case 300:
		return ResponseType_MULTIPLE_CHOICES
	case 301:
		return ResponseType_MOVED_PERMANENTLY
	case 302:
		return ResponseType_MOVED_TEMPORARILY
	case 305:
		return ResponseType_USE_PROXY
	case 380:
		return ResponseType_ALTERNATIVE_SERVICE
	case 400:
		return ResponseType_BAD_REQUEST
	case 401:
		return ResponseType_UNAUTHORIZED
	case 402:
		return ResponseType_PAYMENT_REQUIRED
	case 403:
		return ResponseType_FORBIDDEN
	case 404:
		return ResponseType_NOT_FOUND
	case 405:
		return ResponseType_METHOD_NOT_ALLOWED
	case 406:
		return ResponseType_NOT_ACCEPTABLE
	case 407:
		return ResponseType_PROXY_AUTHENTICATION_REQUIRED
	case 408:
		return ResponseType_REQUEST_TIMEOUT
	case 410:
		return ResponseType_GONE
	case 413:
		return ResponseType_REQUEST_ENTITY_TOO_LARGE
	case 414:
		return ResponseType_REQUEST_URI_TOO_LONG
	case 415:
		return ResponseType_UNSUPPORTED_MEDIA_TYPE
	case 416:
		return ResponseType_UNSUPPORTED_URI_SCHEME
	case 420:
		return ResponseType_BAD_EXTENSION
	case 421:
		return ResponseType_EXTENSION_REQUIRED
	case 423:
		return ResponseType_INTERVAL_TOO_BRIEF
	case 480:
		return ResponseType_TEMPORARILY_UNAVAILABLE
	case 481:
		return ResponseType_CALL_OR_TRANSACTION_DOES_NOT_EXIST
	case 482:
		return ResponseType_LOOP_DETECTED
	case 483:
		return ResponseType_TOO_MANY_HOPS
	case 484:
		return ResponseType_ADDRESS_INCOMPLETE
	case 485:
		return ResponseType_AMBIGUOUS
	case 486:
		return ResponseType_BUSY_HERE
	case 487:
		return ResponseType_REQUEST_TERMINATED
	case 488:
		return ResponseType_NOT_ACCEPTABLE_HERE
	case 489:
		return ResponseType_BAD_EVENT
	case 491:
		return ResponseType_REQUEST_PENDING
	case 493:
		return ResponseType_UNDECIPHERABLE
	case 500:
		return ResponseType_SERVER_INTERNAL_ERROR
	case 501:
		return ResponseType_NOT_IMPLEMENTED
	case 502:
		return ResponseType_BAD_GATEWAY
	case 503:
		return ResponseType_SERVICE_UNAVAILABLE
	case 504:
		return ResponseType_SERVER_TIMEOUT
	case 505:
		return ResponseType_VERSION_NOT_SUPPORTED
	case 513:
		return ResponseType_MESSAGE_TOO_LARGE
	case 600:
		return ResponseType_BUSY_EVERYWHERE
	case 603:
		return ResponseType_DECLINE
	case 604:
		return ResponseType_DOES_NOT_EXIST_ANYWHERE
	case 606:
		return ResponseType_SESSION_NOT_ACCEPTABLE
	}
	switch code / 100 {
	case 1:
		return ResponseType_SESSION_PROGRESS
	case 2:
		return ResponseType_SUCCESS
	case 3:
		return ResponseType_REDIRECTION
	case 4:
		return ResponseType_CLIENT_ERROR
	case 5:
		return ResponseType_SERVER_ERROR
	case 6:
		return ResponseType_GLOBAL_ERROR
	default:
		return ResponseType_UNKNOWN
	}
}

// Reason is the reason phrase of a status code: that of RFC 3261 21 or of the RFC that registered the code, else that of
// its class. "" for what is no status code.
func Reason(code int) string {
	switch code {
	case 100:
		return "Trying"
	case 180:
		return "Ringing"
	case 181:
		return "Call Is Being Forwarded"
	case 182:
		return "Queued"
	case 183:
		return "Session Progress"
	case 199:
		return "Early Dialog Terminated"
	case 200:
		return "OK"
	case 202:
		return "Accepted"
	case 204:
		return "No Notification"
	case 300:
		return "Multiple Choices"
	case 301:
		return "Moved Permanently"
	case 302:
		return "Moved Temporarily"
	case 305:
		return "Use Proxy"
	case 380:
		return "Alternative Service"
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 402:
		return "Payment Required"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 406:
		return "Not Acceptable"
	case 407:
		return "Proxy Authentication Required"
	case 408:
		return "Request Timeout"
	case 410:
		return "Gone"
	case 412:
		return "Conditional Request Failed"
	case 413:
		return "Request Entity Too Large"
	case 414:
		return "Request-URI Too Long"
	case 415:
		return "Unsupported Media Type"
	case 416:
		return "Unsupported URI Scheme"
	case 417:
		return "Unknown Resource-Priority"
	case 420:
		return "Bad Extension"
	case 421:
		return "Extension Required"
	case 422:
		return "Session Interval Too Small"
	case 423:
		return "Interval Too Brief"
	case 424:
		return "Bad Location Information"
	case 428:
		return "Use Identity Header"
	case 429:
		return "Provide Referrer Identity"
	case 430:
		return "Flow Failed"
	case 433:
		return "Anonymity Disallowed"
	case 436:
		return "Bad Identity Info"
	case 437:
		return "Unsupported Credential"
	case 438:
		return "Invalid Identity Header"
	case 439:
		return "First Hop Lacks Outbound Support"
	case 440:
		return "Max-Breadth Exceeded"
	case 469:
		return "Bad Info Package"
	case 470:
		return "Consent Needed"
	case 480:
		return "Temporarily Unavailable"
	case 481:
		return "Call/Transaction Does Not Exist"
	case 482:
		return "Loop Detected"
	case 483:
		return "Too Many Hops"
	case 484:
		return "Address Incomplete"
	case 485:
		return "Ambiguous"
	case 486:
		return "Busy Here"
	case 487:
		return "Request Terminated"
	case 488:
		return "Not Acceptable Here"
	case 489:
		return "Bad Event"
	case 491:
		return "Request Pending"
	case 493:
		return "Undecipherable"
	case 494:
		return "Security Agreement Required"
	case 500:
		return "Server Internal Error"
	case 501:
		return "Not Implemented"
	case 502:
		return "Bad Gateway"
	case 503:
		return "Service Unavailable"
	case 504:
		return "Server Time-out"
	case 505:
		return "Version Not Supported"
	case 513:
		return "Message Too Large"
	case 555:
		return "Push Notification Service Not Supported"
	case 580:
		return "Precondition Failure"
	case 600:
		return "Busy Everywhere"
	case 603:
		return "Decline"
	case 604:
		return "Does Not Exist Anywhere"
	case 606:
		return "Not Acceptable"
	case 607:
		return "Unwanted"
	case 608:
		return "Rejected"
	}
	switch code / 100 {
	case 1:
		return "Session Progress"
	case 2:
		return "OK"
	case 3:
		return "Multiple Choices"
	case 4:
		return "Bad Request"
	case 5:
		return "Server Internal Error"
	case 6:
		return "Busy Everywhere"
	default:
		return ""
	}
}
