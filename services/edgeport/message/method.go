package message

// Method is a request method that this package knows by name. Methods are case-sensitive (RFC 3261 7.1).
type Method uint8

// The methods of RFC 3261 and of the extensions in use. MethodOther is every other one; Message.MethodText has its name.
const (
	MethodOther Method = iota
	INVITE
	ACK
	BYE
	CANCEL
	REGISTER
	OPTIONS
	MESSAGE
	INFO
	UPDATE
	PRACK
	REFER
	NOTIFY
	SUBSCRIBE
	PUBLISH
)

// String is the name as it stands in a request line, "" for MethodOther.
func (m Method) String() string {
	switch m {
	case INVITE:
		return "INVITE"
	case ACK:
		return "ACK"
	case BYE:
		return "BYE"
	case CANCEL:
		return "CANCEL"
	case REGISTER:
		return "REGISTER"
	case OPTIONS:
		return "OPTIONS"
	case MESSAGE:
		return "MESSAGE"
	case INFO:
		return "INFO"
	case UPDATE:
		return "UPDATE"
	case PRACK:
		return "PRACK"
	case REFER:
		return "REFER"
	case NOTIFY:
		return "NOTIFY"
	case SUBSCRIBE:
		return "SUBSCRIBE"
	case PUBLISH:
		return "PUBLISH"
	default:
		return ""
	}
}

// MethodOf is the method of that name.
func MethodOf(name []byte) Method {
	switch string(name) {
	case "INVITE":
		return INVITE
	case "ACK":
		return ACK
	case "BYE":
		return BYE
	case "CANCEL":
		return CANCEL
	case "REGISTER":
		return REGISTER
	case "OPTIONS":
		return OPTIONS
	case "MESSAGE":
		return MESSAGE
	case "INFO":
		return INFO
	case "UPDATE":
		return UPDATE
	case "PRACK":
		return PRACK
	case "REFER":
		return REFER
	case "NOTIFY":
		return NOTIFY
	case "SUBSCRIBE":
		return SUBSCRIBE
	case "PUBLISH":
		return PUBLISH
	default:
		return MethodOther
	}
}
